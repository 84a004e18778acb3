"""What crosses HTTP, as types: forms and answers, a module a subject."""
