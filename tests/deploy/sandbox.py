"""Becomes the program that it is given, with the calls of the system that a unit of systemd allows and no memory that can be
written and run.

Takes the unit, the program and its arguments. What systemd's names of groups mean is asked of systemd.
"""

import ctypes
import errno
import os
import subprocess
import sys

ALLOW = 0x7FFF0000
ERRNO = 0x00050000
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1


def names(group):
    """The calls in a group, and in the groups that it names."""
    listing = subprocess.run(["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True)
    words = {line.strip() for line in listing.stdout.splitlines()[1:]} - {""}
    groups = {word for word in words if word.startswith("@")}
    return {word for word in words if word[0] not in "@#"}.union(*map(names, groups))


def allowed(unit):
    # What systemd itself calls to start the program.
    calls = names("@default") | {"execve"}
    for line in open(unit, encoding="utf-8"):
        if line.startswith("SystemCallFilter="):
            group = line.split("=", 1)[1].strip()
            calls = calls - names(group[1:]) if group.startswith("~") else calls | names(group)
    return calls | {"execve"}


def main(unit, *program):
    calls = allowed(unit)
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(ERRNO | errno.EPERM))
    for call in calls:
        number = seccomp.seccomp_syscall_resolve_name(call.encode())
        # Negative: this processor has no such call.
        if number >= 0 and seccomp.seccomp_rule_add(context, ALLOW, number, 0) != 0:
            sys.exit(f"cannot allow {call}")
    # A kernel before 6.3 knows nothing of it.
    ctypes.CDLL(None).prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0)
    if seccomp.seccomp_load(context) != 0:
        sys.exit("cannot load the filter")
    os.execv(program[0], program)


if __name__ == "__main__":
    main(*sys.argv[1:])
