"""The example that users copy runs, offline, and retrieves what was asked for."""

import runpy
from pathlib import Path

RAG = Path(__file__).parents[2] / "examples" / "langchain_rag.py"


def test_the_rag_example_retrieves_the_passages_that_hold_the_answer(capsys, monkeypatch):
    for name in ("CHROMA_API_KEY", "CHROMA_EMBED_URL"):
        monkeypatch.delenv(name, raising=False)
    question = "When is the else clause of a loop executed?"
    runpy.run_path(str(RAG))["main"](question)
    asked, *passages, answer = capsys.readouterr().out.strip().split("\n\n")
    assert asked == f"Question: {question}"
    assert len(passages) == 4
    assert '"else" clause' in passages[0]
    assert answer.startswith("Answer: ")
