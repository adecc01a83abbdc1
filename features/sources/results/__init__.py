"""Results of vectorizer optimizers, in the JSON shapes that people have, become one table."""
