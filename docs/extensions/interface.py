"""What the pages of the reference show of a class: what fastmlp adds to the classes that it inherits from."""


def skip(app, what, name, member, skip, options):
    """Leave out what other packages have defined: their texts refer to pages of theirs."""
    member = getattr(member, "fget", None) or getattr(member, "__func__", member)
    module = getattr(member, "__module__", None) or ""
    return True if callable(member) and not module.startswith("fastmlp") else None


def setup(app):
    """Connect to Sphinx."""
    app.connect("autodoc-skip-member", skip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
