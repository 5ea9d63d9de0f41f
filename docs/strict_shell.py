"""Read by the kernel of a tutorial as it starts: a `!command` that fails, fails its cell and the build.

IPython by itself goes on.
"""

from IPython.core.getipython import get_ipython


def _make_strict(shell):
    run = shell.system

    def system(command):
        run(command)
        if code := shell.user_ns["_exit_code"]:
            raise RuntimeError(f"!{command} failed with exit code {code}")

    shell.system = system


_make_strict(get_ipython())
