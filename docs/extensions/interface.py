"""What the pages of the reference show: of a class, what fastmlp adds to those that it inherits from; signatures."""


def skip(app, what, name, member, skip, options):
    """Leave out what other packages have defined: their texts refer to pages of theirs."""
    member = getattr(member, "fget", None) or getattr(member, "__func__", member)
    module = getattr(member, "__module__", None) or ""
    return True if callable(member) and not module.startswith("fastmlp") else None


def hide_factories(app, what, name, obj, options, signature, returns):
    """Write ``loss=...`` for a field of a dataclass that begins as a new list: Python's own text is a ``<factory>``."""
    return (signature.replace("<factory>", "..."), returns) if signature else None


def setup(app):
    """Connect to Sphinx."""
    app.connect("autodoc-process-signature", hide_factories)
    app.connect("autodoc-skip-member", skip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
