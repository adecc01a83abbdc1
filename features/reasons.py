"""What a library's exception says, as part of one line."""


def reason_of(error: BaseException) -> str:
    """Its message without line breaks and closing full stop, at most 160 characters; its type where it has no message."""
    return " ".join(str(error).split())[:160].rstrip(" .") or type(error).__name__
