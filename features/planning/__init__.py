"""Before extraction: images become jobs, and what these will take is predicted from a short run."""
