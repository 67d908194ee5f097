"""``sparse-embed embed`` as a user's shell sees it: stopped, killed, refused, and started again."""

import json
import re
import resource
import signal
import sqlite3
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.bulk.conftest import BATCH, ROWS, Command, assert_right, read_target
from tests.faultserver import GOOD, PATIENCE, Action, FaultServer, Gate, Seen

IN_FLIGHT = 4
PART = 300


@pytest.fixture
def config(tmp_path: Path) -> str:
    """Few requests in flight and small parts, so that there are many of each."""
    path = tmp_path / "config.json"
    path.write_text(
        json.dumps({kind: {"provider": "chroma", "max_concurrency": IN_FLIGHT} for kind in ("sparse", "dense")})
    )
    return str(path)


def paid(server: FaultServer) -> Counter[str]:
    """Texts that were sent, by kind."""
    sent: Counter[str] = Counter()
    for seen in server.requests:
        sent["sparse" if "sparse" in seen.path else "dense"] += len(seen.texts)
    return sent


@pytest.mark.parametrize("target", ["out.parquet", "out.jsonl"])
def test_kill_9_loses_and_doubles_nothing_and_costs_no_more_than_it_says(
    target: str, command: Command, config: str, server: FaultServer, source: Path
) -> None:
    arguments = ("embed", source.name, target, "--config", config, "--part-rows", str(PART), "--quiet")
    for request in (1, 7, 15, 12):
        before = len(server.requests)
        process = command.start(*arguments)

        def kill(seen: Seen, process: Any = process, number: int = before + request) -> Action:
            if seen.number == number:
                process.kill()
            return GOOD

        server.script = kill
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
    assert not (source.parent / target).exists()
    assert command(*arguments).returncode == 0
    assert_right(read_target(source.parent / target), "sparse", "dense")
    for kind, texts in paid(server).items():
        assert texts <= ROWS + 4 * (IN_FLIGHT * BATCH + PART), kind
    assert {path.name for path in source.parent.iterdir()} == {
        source.name, "config.json", target, f"{target}.manifest.json"
    }  # fmt: skip


@pytest.mark.parametrize("target", ["out.parquet", "out.jsonl"])
@pytest.mark.parametrize("moment", ["joining", "replaced", "finished"])
def test_kill_9_while_the_parts_are_joined_is_made_good_without_a_request(  # noqa: PLR0917  # fixtures
    target: str, moment: str, command: Command, config: str, server: FaultServer, source: Path
) -> None:
    """The process kills itself at that moment: none outside would hit it."""
    patches = {
        "joining": "formats.shutil.copyfileobj = formats.pa.concat_tables = die",
        "replaced": "files.FileTarget._write_manifest = lambda self, report: report and die() or wrote(self, report)",
        "finished": "files.FileTarget._remove_parts = die",
    }
    code = (
        "import os, sys\nfrom sparse_embed.bulk import files, formats\nfrom sparse_embed.cli import app\n"
        "wrote = files.FileTarget._write_manifest\n"
        f"def die(*_, **__): os.kill(os.getpid(), 9)\n{patches[moment]}\n"
        "app(sys.argv[1:])"
    )
    arguments = ("embed", source.name, target, "--config", config)
    with command.start(*arguments, code=code) as process:
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    sent = len(server.requests)
    assert (source.parent / target).exists() == (moment != "joining")
    again = command(*arguments)
    assert again.returncode == 0
    assert ("finished already" in again.stdout) == (moment == "finished")
    assert_right(read_target(source.parent / target), "sparse", "dense")
    assert len(server.requests) == sent
    assert not (source.parent / f"{target}.parts").exists()


JOIN_EARLY = (
    "import sys\nfrom sparse_embed.bulk import joining\nfrom sparse_embed.cli import app\n"
    "joining.ROW_GROUP = 500\napp(sys.argv[1:])"
)


@pytest.mark.parametrize("target", ["out.parquet", "out.jsonl"])
def test_rows_that_were_joined_before_a_kill_are_in_the_target_once(
    target: str, command: Command, config: str, server: FaultServer, source: Path
) -> None:
    arguments = ("embed", source.name, target, "--config", config, "--part-rows", "200")
    joined = source.parent / f"{target}.parts" / f"{target}.tmp"
    # Rows that are joined early, and then requests that keep the process from its end: nothing tells the server when.
    server.script = lambda seen: GOOD if int(seen.texts[0].split()[1]) < 1500 else Action(gate=Gate())
    with command.start(*arguments, code=JOIN_EARLY) as process:
        until = time.monotonic() + PATIENCE
        while not (joined.exists() and joined.stat().st_size > 0):
            assert time.monotonic() < until, "nothing is joined"
            time.sleep(0.01)
        process.kill()
        process.communicate()
    server.script = lambda seen: GOOD
    again = command(*arguments, code=JOIN_EARLY)
    assert again.returncode == 0
    assert_right(read_target(source.parent / target), "sparse", "dense")


def test_ctrl_c_keeps_what_was_saved_and_says_how_to_go_on(command: Command, server: FaultServer, source: Path) -> None:
    arguments = ("embed", source.name, "out.jsonl", "--sparse", "chroma", "--part-rows", "400")
    server.script = lambda seen: GOOD if int(seen.texts[0].split()[1]) < 500 else Action(gate=Gate())
    with command.start(*arguments) as process:
        parts = source.parent / "out.jsonl.parts"
        server.until(lambda: server.in_flight == 16 and len(list(parts.glob("*.part"))) == 2)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert err.startswith("Stopping: what has arrived is being saved. A second Ctrl-C stops at once.\n")
    said = re.search(r"Interrupted: (\d+) of 3,000 rows are saved. Run the same command again to go on.", err)
    assert said is not None, err
    assert int(said[1]) >= 400
    assert "is not finished: run the same" in command.here("search", "out.jsonl", "text").stderr
    sent = len(server.requests)
    server.script = lambda seen: GOOD
    again = command(*arguments)
    assert f"done by earlier runs: {said[1]} rows" in again.stdout
    assert sum(map(len, server.texts[sent:])) <= ROWS - int(said[1])
    assert_right(read_target(source.parent / "out.jsonl"), "sparse")


def test_a_second_process_on_the_same_target_is_refused_and_one_after_a_kill_is_not(
    command: Command, server: FaultServer, source: Path
) -> None:
    arguments = ("embed", source.name, "out.jsonl", "--sparse", "chroma")
    server.script = lambda seen: Action(gate=Gate())
    with command.start(*arguments) as process:
        server.until(lambda: server.requests)
        second = command(*arguments)
        assert second.returncode == 1
        assert "another process is writing out.jsonl" in second.stderr
        process.kill()
        process.communicate()
    server.script = lambda seen: GOOD
    assert command(*arguments).returncode == 0


def test_a_full_disk_is_named_and_costs_nothing_that_was_saved(
    command: Command, server: FaultServer, source: Path
) -> None:
    """A limit on the size of files fails where a full disk does: when the joined file grows beyond it."""
    arguments = ("embed", source.name, "out.jsonl", "--sparse", "chroma", "--part-rows", "500")
    limit = 100_000
    full = command(*arguments, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    assert full.returncode == 1
    assert "cannot write" in full.stderr
    assert "run the same command again" in full.stderr
    sent = len(server.requests)
    assert command(*arguments).returncode == 0
    assert len(server.requests) == sent
    assert_right(read_target(source.parent / "out.jsonl"), "sparse")


def test_the_closing_report_goes_to_the_terminal_and_to_a_file(command: Command, source: Path) -> None:
    arguments = ("embed", source.name, "out.jsonl", "--sparse", "chroma", "--price", "4", "--report", "report.json")
    done = command.here(*arguments)
    report = json.loads((source.parent / "report.json").read_text())
    assert f"{ROWS:,} rows" in done.stdout
    assert f"{report['blank']} blank texts, without vectors: rows 5, 7, 96," in done.stdout
    assert report["cost"] == pytest.approx(4 * report["tokens"] / 1e6)
    assert "finished already; nothing was sent" in command.here(*arguments).stdout
    quiet = command.here(*arguments, "--quiet")
    assert quiet.stdout + quiet.stderr == ""


def test_standard_input(command: Command, source: Path) -> None:
    done = command("embed", "-", "out.jsonl", "--sparse", "chroma", input=source.read_text())
    assert done.returncode == 0, done.stderr
    assert_right(read_target(source.parent / "out.jsonl"), "sparse")


def test_a_collection_of_qdrant_is_filled_once(
    command: Command, config: str, server: FaultServer, source: Path
) -> None:
    lines = source.read_text().splitlines(keepends=True)[:800]  # Qdrant's local mode writes one point at a time
    source.write_text("".join(lines))
    arguments = ("embed", source.name, "--to", "qdrant:store/docs", "--config", config)
    server.script = lambda seen: GOOD if seen.number <= 6 else Action(gate=Gate())
    with command.start(*arguments, "--part-rows", "200", "--keep", "title") as process:
        server.until(lambda: len(server.requests) > 6)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    server.script = lambda seen: GOOD
    for _ in ("goes on", "is finished"):
        done = command(*arguments, "--keep", "title")
        assert done.returncode == 0, done.stderr
    assert "finished already; nothing was sent" in done.stdout
    with sqlite3.connect(source.parent / "store/collection/docs/storage.sqlite") as store:
        [[points]] = store.execute("select count(*) from points")
    blank = sum(not (json.loads(line)["text"] or "").strip() for line in lines)
    assert points == len(lines) - blank
    assert max(paid(server).values()) <= len(lines) + IN_FLIGHT * BATCH + 200


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("embed", "docs.jsonl"), "give a TARGET or --to"),
        (("embed", "docs.jsonl", "out.jsonl"), "name what to embed with"),
        (
            ("embed", "docs.jsonl", "out.jsonl", "--sparse", "chroma", "--config", "config.json"),
            "a section `sparse` already",
        ),
        (("embed", "docs.jsonl", "out.jsonl", "--config", "docs.jsonl"), "--config"),
        (("embed", "docs.jsonl", "out.jsonl", "--config", "mixed.yaml"), "and not 'text', 1 beside them"),
        (
            ("embed", "docs.jsonl", "--to", "qdrant:docs", "--sparse", "chroma"),
            "a store is named qdrant:URL/COLLECTION, or qdrant:FOLDER/COLLECTION",
        ),
        (("embed", "docs.jsonl", "out.jsonl", "--to", "qdrant:x/docs", "--sparse", "chroma"), "and not both"),
        (("embed", "docs.jsonl", "--to", "milvus:x/docs", "--sparse", "chroma"), "must begin with qdrant:"),
        (("search", "docs.jsonl", "text"), "name its model with --sparse"),
        (("search", "docs.jsonl", "text", "--sparse", "chroma"), "docs.jsonl has no sparse vectors"),
        (("search", "nothing.jsonl", "text"), "nothing.jsonl does not exist"),
    ],
)
def test_wrong_options_are_one_sentence(  # noqa: PLR0917  # fixtures
    arguments: tuple[str, ...], said: str, command: Command, config: str, server: FaultServer, source: Path
) -> None:
    (source.parent / "mixed.yaml").write_text("1: a number\ntext: a word\n")
    done = command.here(*arguments)
    assert done.exit_code in (1, 2)
    assert said in " ".join(done.stderr.replace("│", " ").split())
    assert not server.requests


def test_search_finds_what_was_embedded_by_the_same_model(command: Command, source: Path) -> None:
    for target in ("out.parquet", "out.jsonl"):
        command.here("embed", source.name, target, "--sparse", "chroma:some/model", "--keep", "title")
        found = command.here("search", target, "text 1234", "-k", "1")
        assert "1234" in found.stdout, found.stderr
        assert "title: title 1234" in found.stdout
        assert not found.stderr
        with FaultServer() as other:
            moved = command.here("search", target, "text 1234", CHROMA_EMBED_URL=other.url)
        assert f"the query with some/model of chroma, at {other.url}" in moved.stderr


def test_rare_words_count_more_where_bm25_leaves_that_to_the_search(command: Command, source: Path) -> None:
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in ("usual rare", *["usual"] * 9)))
    scores = {}
    for model in ("local/bm25", "some/model"):
        target = f"{model.replace('/', '-')}.parquet"
        command.here("embed", source.name, target, "--sparse", f"chroma:{model}")
        best = command.here("search", target, "usual rare", "-k", "1").stdout.split()
        scores[model] = float(best[1])
    assert scores["local/bm25"] > scores["some/model"]


def test_search_with_another_model_or_engine_than_the_file_says_so(
    command: Command, server: FaultServer, source: Path
) -> None:
    server.script = lambda seen: Action(headers={"x-sparse-embed-engine": "one"})
    command.here("embed", source.name, "out.jsonl", "--sparse", "chroma:some/model")
    same = command.here("search", "out.jsonl", "text 1234", "--sparse", "chroma:some/model")
    assert not same.stderr
    other = command.here("search", "out.jsonl", "text 1234", "--sparse", "chroma:other/model")
    assert "Note: the file was embedded with some/model of chroma, computed by one" in other.stderr
    assert "the query with other/model of chroma" in other.stderr
    server.script = lambda seen: Action(headers={"x-sparse-embed-engine": "two"})
    assert (
        "the query with some/model of chroma, computed by two" in command.here("search", "out.jsonl", "text 1").stderr
    )


@pytest.mark.parametrize("target", ["out.parquet", "out.jsonl"])
def test_search_in_a_file_of_dense_vectors_is_refused(target: str, command: Command, source: Path) -> None:
    command.here("embed", source.name, target, "--dense", "chroma")
    for options in ((), ("--sparse", "chroma")):
        assert f"{target} has no sparse vectors" in command.here("search", target, "text", *options).stderr


def test_encode_shows_terms_as_bars(command: Command) -> None:
    done = command.here("encode", "a text", "--sparse", "chroma")
    assert "██████" in done.stdout
    assert "2 terms" in done.stderr


def test_check_says_what_works_or_what_to_do(command: Command, server: FaultServer) -> None:
    works = command.here("check").stdout
    assert "from CHROMA_API_KEY" in works
    assert "works     2 terms in" in works
    both = command.here("check", "--sparse", "chroma:some/model", "--dense", "chroma:other/model").stdout
    assert "model     some/model (sparse)" in both
    assert "model     other/model (dense)" in both
    assert "works     4 dimensions in" in both
    server.script = lambda seen: Action(401, {"error": "no"})
    failed = command.here("check")
    assert failed.exit_code == 1
    assert "Copy the key from the provider's console into CHROMA_API_KEY" in failed.stderr
    server.script = lambda seen: Action(501, {"error": "no"})
    assert "Choose a dense model" in command.here("check", "--dense", "chroma:sparse/model").stderr
