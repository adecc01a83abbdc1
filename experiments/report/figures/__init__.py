"""The pictures of a report, each as SVG or bytes."""
