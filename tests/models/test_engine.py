"""A model is served with the vectors that it gives for each text alone, or it is refused at start."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder, SentenceTransformer, SparseEncoder

from sparse_embed.server.engines import TooLongError
from sparse_embed.server.engines.transformers import load
from sparse_embed.server.engines.weights import ModelError, find_files
from tests.models import tiny

TEXTS = [
    "What is the value of an expression?",
    "a",
    "",
    "The try statement specifies exception handlers and cleanup code for a group of statements. " * 2,
    "naïve 文 unknown",
    "x " * 500,
]


def differences(ours, theirs, sparse, size):
    """The largest difference of a number; an id that only one of two sparse vectors has counts with its weight."""
    if sparse:
        ours = [torch.zeros(size).index_put((torch.tensor(ids, dtype=torch.long),), torch.tensor(v)) for ids, v in ours]
    return (torch.stack(list(map(torch.as_tensor, ours))) - theirs.cpu()).abs().max().item()


@pytest.mark.parametrize("role", ["document", "query"])
@pytest.mark.parametrize("name", tiny.MODELS)
def test_a_batch_gives_each_text_the_vector_that_it_has_alone(folder, name, role):
    files = find_files(str(folder(name)))
    model = load(files, device="cpu")
    assert model.vector_type == files.kind
    batch = model.prepare(TEXTS, role, prompt=model.prompts[role])
    ours = model.forward(batch)
    kind = SparseEncoder if model.sparse else SentenceTransformer
    reference = kind(str(files.folder), device="cpu", local_files_only=True)
    encode = reference.encode_query if role == "query" else reference.encode_document
    options = {"convert_to_sparse_tensor": False} if model.sparse else {}
    theirs = torch.stack([encode(text, convert_to_tensor=True, **options) for text in TEXTS])
    assert differences(ours, theirs, model.sparse, model.size) <= 1e-5


def test_the_splade_head_gives_the_bits_of_the_pooling_that_it_replaces(folder):
    for name in ("bert", "distilbert", "xlm-roberta", "modernbert", "bert, two logarithms"):
        model = load(find_files(str(folder(name))), device="cpu")
        [ours] = model.forward(model.prepare(TEXTS[3:4], "document"))
        reference = SparseEncoder(str(folder(name)), device="cpu", local_files_only=True)
        theirs = reference.encode(TEXTS[3], convert_to_sparse_tensor=False)
        assert ours == (theirs.nonzero()[:, 0].tolist(), theirs[theirs != 0].tolist())


def test_terms_are_the_models_own_tokens_and_ids_that_are_no_tokens_have_none(folder):
    model = load(find_files(str(folder("router"))), device="cpu")
    [(indices, values)] = model.forward(model.prepare(["value of the value"], "query"))
    assert sorted(model.terms(indices)) == ["of", "the", "value"]
    assert values == sorted(values)  # the fixed weights rise with the id
    model = load(find_files(str(folder("autoencoder"))), device="cpu")
    [(indices, _)] = model.forward(model.prepare(["value"], "document"))
    assert model.terms(indices) is None


@pytest.mark.parametrize("name", ["bert", "router", "qwen3"])
def test_texts_are_cut_at_the_models_limit_at_a_lower_one_or_not_at_all(folder, name):
    model = load(find_files(str(folder(name))), device="cpu")
    for role in ("document", "query"):
        long = ["value " * 100]
        assert len(model.prepare(long, role)[0].ids) == model.limits[role] == tiny.LENGTH
        assert len(model.prepare(long, role, max_tokens=10)[0].ids) == 10
        with pytest.raises(TooLongError) as caught:
            model.prepare(["value", *long], role, cut=False)
        assert (caught.value.position, caught.value.limit) == (1, tiny.LENGTH)
        assert 100 <= caught.value.length <= 102
        assert len(model.prepare(["value " * 60], role, cut=False)[0].ids) in {60, 61, 62}


def test_a_file_in_bfloat16_is_served_in_float32(folder, tmp_path):
    copy = shutil.copytree(folder("bert"), tmp_path / "half")
    weights = {name: tensor.bfloat16() for name, tensor in load_file(copy / "model.safetensors").items()}
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    edit(copy / "config.json", dtype="bfloat16")
    model = load(find_files(str(copy)), device="cpu")
    batch = model.prepare(TEXTS, "document")
    together = model.forward(batch)
    for position, text in enumerate(batch):
        alone = model.forward([text])[0]
        assert differences([together[position]], _dense(alone, model.size), True, model.size) <= 1e-5


def _dense(row, size):
    ids, values = map(torch.tensor, row)
    return torch.zeros(1, size).index_put((torch.tensor(0), ids.long()), values)


# --- refused -----------------------------------------------------------------------------------------------------


def edit(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def keep(folder, tmp_path, name="bert"):
    return shutil.copytree(folder(name), tmp_path / "broken")


def missing_folder(folder, tmp_path):
    return tmp_path / "nowhere"


def empty_folder(folder, tmp_path):
    return tmp_path


def a_file(folder, tmp_path):
    (tmp_path / "file").write_text("weights")
    return tmp_path / "file"


def no_tokenizer(folder, tmp_path):
    broken = keep(folder, tmp_path)
    for file in broken.glob("*token*"):
        file.unlink()
    return broken


def tokenizer_of_another_model(folder, tmp_path):
    broken = keep(folder, tmp_path)
    edit(broken / "tokenizer.json", added_tokens=[])
    changed = json.loads((broken / "tokenizer.json").read_text())
    changed["model"]["vocab"] = {word: at for word, at in changed["model"]["vocab"].items() if at < 500}
    (broken / "tokenizer.json").write_text(json.dumps(changed))
    return broken


def half_a_weights_file(folder, tmp_path):
    broken = keep(folder, tmp_path)
    whole = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    return broken


def no_weights_file(folder, tmp_path):
    broken = keep(folder, tmp_path)
    (broken / "model.safetensors").unlink()
    return broken


def a_layer_is_missing(folder, tmp_path):
    broken = keep(folder, tmp_path)
    weights = load_file(broken / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "layer.1." not in name}
    save_file(kept, broken / "model.safetensors", metadata={"format": "pt"})
    return broken


def a_bias_is_missing(folder, tmp_path):
    broken = keep(folder, tmp_path)
    weights = load_file(broken / "model.safetensors")
    del weights["bert.encoder.layer.0.attention.self.query.bias"]
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    return broken


def code_of_its_own(folder, tmp_path):
    broken = keep(folder, tmp_path)
    modules = json.loads((broken / "modules.json").read_text())
    modules[1]["type"] = "own_code.Pooling"
    (broken / "modules.json").write_text(json.dumps(modules))
    (broken / "own_code.py").write_text("raise SystemExit('code of the folder ran')")
    return broken


def code_behind_a_router(folder, tmp_path):
    broken = keep(folder, tmp_path, "router")
    config = json.loads((broken / "router_config.json").read_text())
    config["types"] = dict.fromkeys(config["types"], "own_code.Encoder")
    (broken / "router_config.json").write_text(json.dumps(config))
    return broken


def architecture_of_its_own(folder, tmp_path):
    broken = keep(folder, tmp_path)
    edit(broken / "config.json", model_type="ours", auto_map={"AutoConfig": "own_code.Config"})
    (broken / "own_code.py").write_text("raise SystemExit('code of the folder ran')")
    return broken


def no_pooling(folder, tmp_path):
    return tiny.language_model(tmp_path / "plain", "bert without head")


def sparse_modules_declared_dense(folder, tmp_path):
    broken = keep(folder, tmp_path)
    edit(broken / "config_sentence_transformers.json", model_type="SentenceTransformer")
    return broken


def dense_modules_declared_sparse(folder, tmp_path):
    broken = keep(folder, tmp_path, "dense")
    edit(broken / "config_sentence_transformers.json", model_type="SparseEncoder")
    return broken


def a_reranker(folder, tmp_path):
    plain = tiny.language_model(tmp_path / "plain", "bert")
    CrossEncoder(str(plain), num_labels=1, device="cpu").save(str(tmp_path / "reranker"))
    return tmp_path / "reranker"


def not_json(folder, tmp_path):
    broken = keep(folder, tmp_path)
    (broken / "modules.json").write_text("[{")
    return broken


REFUSED = {
    missing_folder: "there is no folder",
    empty_folder: "holds no model",
    a_file: "is not a folder",
    no_tokenizer: "files of the tokenizer are missing",
    tokenizer_of_another_model: "files of the tokenizer are missing",
    half_a_weights_file: "cannot be loaded",
    no_weights_file: "cannot be loaded",
    a_layer_is_missing: "weights are missing in its files, 16 with",
    a_bias_is_missing: "weights are missing in its files, 1 with",
    code_of_its_own: "runs code of its own, own_code.Pooling",
    code_behind_a_router: "runs code of its own, own_code.Encoder",
    architecture_of_its_own: "cannot be loaded",
    no_pooling: "nothing says how the vectors of tokens become one",
    sparse_modules_declared_dense: "contradicts itself",
    dense_modules_declared_sparse: "contradicts itself",
    a_reranker: "CrossEncoder, which gives no vector per text",
    not_json: "is not JSON",
}


@pytest.mark.parametrize(("broken", "said"), REFUSED.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_what_would_answer_wrongly_is_refused_in_words(folder, tmp_path, broken, said):
    at = broken(folder, tmp_path)
    with pytest.raises(ModelError) as caught:
        load(find_files(str(at)), device="cpu")
    assert said in str(caught.value)
    assert str(at) in str(caught.value)
    assert "\n" not in str(caught.value)
