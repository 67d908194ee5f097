import runpy
import socket
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "llama_index_query_engine.py"


def test_the_query_engine_answers_from_the_right_passage_without_a_download(monkeypatch, capsys):
    connect = socket.socket.connect

    def only_here(self, address):
        assert address[0] == "127.0.0.1", f"the example tried to reach {address}"
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", only_here)
    runpy.run_path(str(EXAMPLE))["main"]("how do I delete a name with the del statement?")
    question, first, *_, answer = capsys.readouterr().out.split("\n\n", 2)
    assert question == "Question: how do I delete a name with the del statement?"
    assert "  del\nDeletion of a name removes the binding" in first
    assert "Answer:" in answer
