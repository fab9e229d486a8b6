"""Wrong implementations of our own code, a few lines each: every one must fail a check, and reports call them by name.

    python tests/test_zoo.py      prints which check catches which

A member is a class or function like ours with one mistake. `replaces` is the name of ours, `title` the mistake,
`symptom` what a student sees, `cause` why.
"""


def wrong(replaces, title, *, symptom, cause):
    """Attach a member's facts to it."""
    def attach(member):
        member.replaces, member.title, member.symptom, member.cause = replaces, title, symptom, cause
        return member

    return attach


def members(name=None):
    """The wrong versions of ours of this name; all without one."""
    from zoo import batchnorm, blocks, conv, loss, optim, simple, weights
    found = [member for module in (conv, batchnorm, simple, loss, optim, blocks, weights)
             for member in vars(module).values() if getattr(member, "__module__", "") == module.__name__]
    return [member for member in found if hasattr(member, "title") and name in (None, member.replaces)]
