"""What each of the three retrievers promises beyond what they share."""

import asyncio
import inspect
import zipfile
from hashlib import sha256
from typing import Any

import chromadb
import pytest
from chromadb.errors import ChromaError
from langchain_core.documents import Document
from langchain_core.runnables import ConfigurableField
from pinecone import Pinecone

from langchain_sparse_embed import ChromaCloudEmbeddings, ChromaCloudSparseEmbeddings
from langchain_sparse_embed.retrievers import ChromaHybridRetriever, PineconeHybridRetriever, SparseRetriever
from sparse_embed import ConfigurationError
from sparse_embed.convert import to_chroma
from sparse_embed.stores.chroma_search import explain_refusal
from sparse_embed.testing import fake_clients
from tests.stubs.chroma_cloud import chroma_cloud_stub
from tests.stubs.pinecone_index import pinecone_index_stub

each_mode = pytest.mark.parametrize("mode", ["sync", "async"])

BAD_TEXTS = [
    ("fox", None, "a list of texts is needed, not str"),
    (5, None, "a list of texts is needed, not int"),
    ({"fox", "dog"}, None, "a set of texts has no order"),
    (["fox", 5], None, "text 1 is int, not str"),
    (["\ud800"], None, "text 0 holds half a surrogate pair"),
    (["fox"], [{}, {}], "1 texts and 2 metadatas"),
    (["fox", "dog"], [{}, None], "metadata 1 must be of type Mapping, not NoneType"),
]


@each_mode
def test_a_wrong_filter_is_refused_before_anything_is_sent(mode):
    wrong = {"year": {"$gt": 2000}}
    sent = []
    sparse = ChromaCloudSparseEmbeddings(on_event=sent.append, **fake_clients())
    with pytest.raises(ConfigurationError, match=r"operator '\$gt'"):
        SparseRetriever.from_texts(["fox"], sparse, filter=wrong)
    retriever = SparseRetriever(sparse_encoder=sparse)
    with pytest.raises(ConfigurationError, match=r"operator '\$gt'"):
        call(mode, retriever, "invoke", "fox", filter=wrong)
    assert not sent


@pytest.fixture
def sparse(local):
    return ChromaCloudSparseEmbeddings(model="local/bm25", base_url=local, api_key="any")


@pytest.fixture
def dense(local):
    return ChromaCloudEmbeddings(model="local/hashing", base_url=local, api_key="any")


def call(mode: str, target: Any, name: str, *args: Any, **given: Any) -> Any:
    """A method, or its async twin."""
    if mode == "sync":
        return getattr(target, name)(*args, **given)

    async def called() -> Any:
        return await getattr(target, f"a{name}")(*args, **given)

    return asyncio.run(called())


def names(documents: list[Document]) -> list[str]:
    return [document.page_content for document in documents]


class TestSparseRetriever:
    @each_mode
    def test_documents_are_found_from_the_moment_they_are_added_until_they_are_deleted(self, sparse, mode):
        retriever = SparseRetriever(sparse_encoder=sparse)
        assert call(mode, retriever, "invoke", "fox") == []
        documents = [Document("red fox", id="red"), Document("blue fox"), Document("dog")]
        red, blue, _ = call(mode, retriever, "add_documents", documents)
        assert red == "red"
        assert names(call(mode, retriever, "invoke", "fox")) == ["red fox", "blue fox"]
        assert retriever.delete([blue, "not there"]) == 1
        assert names(call(mode, retriever, "invoke", "fox")) == ["red fox"]
        call(mode, retriever, "add_documents", [Document("green fox")], ids=["red"])
        assert names(call(mode, retriever, "invoke", "fox")) == ["green fox"]

    @each_mode
    def test_scores_come_beside_the_documents(self, sparse, mode):
        retriever = SparseRetriever.from_texts(["red fox", "fox fox", "dog"], sparse, k=1)
        [(best, score)] = call(mode, retriever, "similarity_search_with_score", "fox")
        assert best.page_content == "fox fox"
        assert score == pytest.approx(sparse.embed_query("fox").dot(sparse.embed_documents(["fox fox"])[0]))
        assert len(call(mode, retriever, "similarity_search_with_score", "fox", k=3)) == 2
        assert len(retriever) == 3

    @pytest.mark.parametrize("build", [SparseRetriever.from_texts, SparseRetriever.from_documents])
    def test_settings_are_in_the_signature(self, build):
        assert {"k", "idf", "filter", "score_key", "terms_key"} <= set(inspect.signature(build).parameters)

    @each_mode
    def test_documents_are_copied(self, sparse, mode):
        given = Document("fox", metadata={"tags": ["a"]})
        retriever = SparseRetriever(sparse_encoder=sparse)
        call(mode, retriever, "add_documents", [given])
        given.metadata["tags"].append("changed")
        for _ in range(2):
            [found] = retriever.invoke("fox")
            assert found.metadata == {"tags": ["a"]}
            found.metadata["tags"].append("changed")
        assert given.id is None

    @each_mode
    def test_a_predicate_sees_the_documents_metadata(self, sparse, mode):
        metadatas = [{"year": year} for year in (1999, 2020, 2026)]
        retriever = SparseRetriever.from_texts(["fox"] * 3, sparse, metadatas, filter=lambda one: one["year"] > 2000)
        assert [one.metadata["year"] for one in call(mode, retriever, "invoke", "fox")] == [2020, 2026]
        assert len(call(mode, retriever, "invoke", "fox", filter=lambda one: True)) == 3
        assert call(mode, retriever, "invoke", "fox", filter={"month": 1}) == []

    def test_with_idf_a_rare_term_outweighs_a_common_one(self, sparse):
        texts = ["common common common", "rare", "common", "common"]
        assert names(SparseRetriever.from_texts(texts, sparse).invoke("common rare", k=1)) == [texts[0]]
        weighted = SparseRetriever.from_texts(texts, sparse, idf=True, score_key="score", terms_key="terms", k=1)
        [rare] = weighted.invoke("common rare")
        assert rare.page_content == "rare"
        assert sum(rare.metadata["terms"].values()) == pytest.approx(rare.metadata["score"])

    @pytest.mark.parametrize("idf", [False, True])
    def test_what_is_saved_can_be_loaded_and_added_to(self, sparse, idf, tmp_path):
        path = tmp_path / "foxes.npz"
        metadatas = [{"n": 1, "tags": ["a"]}, {"n": 2}]
        saved = SparseRetriever.from_texts(["red fox", "dog"], sparse, metadatas, idf=idf, score_key="score")
        saved.save(path)
        with zipfile.ZipFile(path) as archive:
            assert not any(b"pickle" in archive.read(name) for name in archive.namelist())
        loaded = SparseRetriever.load(path, sparse, score_key="score")
        assert loaded.invoke("red dog") == saved.invoke("red dog")
        loaded.add_documents([Document("another red dog")])
        assert loaded.invoke("red dog", k=1)[0].page_content == "another red dog"
        assert len(saved.invoke("red dog")) == 2

    def test_loading_what_does_not_fit_is_refused(self, sparse, tmp_path):
        (tmp_path / "text").write_text("no index")
        with pytest.raises(ConfigurationError, match="damaged, or not an index"):
            SparseRetriever.load(tmp_path / "text", sparse)
        SparseRetriever.from_texts(["fox"], sparse, idf=True).save(tmp_path / "index")
        with pytest.raises(ConfigurationError, match="idf=False"):
            SparseRetriever.load(tmp_path / "index", sparse, idf=False)

    @each_mode
    def test_retrievers_made_from_it_have_its_documents(self, sparse, mode):
        retriever = SparseRetriever.from_texts(["red fox", "blue fox"], sparse)
        chosen = retriever.configurable_fields(k=ConfigurableField(id="k"))
        assert len(call(mode, chosen, "invoke", "fox", config={"configurable": {"k": 1}})) == 1
        shared = SparseRetriever(sparse_encoder=sparse, index=retriever.index, k=1)
        assert retriever.delete([document.id for document in shared.invoke("fox")]) == 1
        assert names(call(mode, shared, "invoke", "fox")) == ["blue fox"]

    @each_mode
    def test_bad_input_is_refused_and_nothing_is_added(self, sparse, mode):
        retriever = SparseRetriever(sparse_encoder=sparse)
        with pytest.raises(ConfigurationError, match="2 documents and 1 ids"):
            call(mode, retriever, "add_documents", [Document("fox"), Document("dog")], ids=["one"])
        with pytest.raises(ConfigurationError, match="document 1 is str, not Document: use from_texts"):
            call(mode, retriever, "add_documents", [Document("fox"), "dog"])
        for texts, metadatas, said in BAD_TEXTS:
            with pytest.raises(ConfigurationError, match=said):
                SparseRetriever.from_texts(texts, sparse, metadatas)
        assert retriever.invoke("fox") == []


class TestChromaHybridRetriever:
    @pytest.fixture
    def stub(self):
        with chroma_cloud_stub() as stub:
            yield stub

    @pytest.fixture
    def collection(self, stub):
        client = chromadb.HttpClient(host="127.0.0.1", port=stub.port)
        return client.get_or_create_collection("docs", embedding_function=None)

    def filled(self, collection, sparse, dense, dense_texts, sparse_texts):
        """A collection whose two rankings are of our choosing."""
        vectors = sparse.embed_documents([text or "" for text in sparse_texts])
        kept = [{"sparse_embedding": to_chroma(vector)} if vector.nnz else {"n": 1} for vector in vectors]
        ids = [str(at) for at in range(len(kept))]
        collection.add(ids=ids, documents=ids, embeddings=dense.embed_documents(dense_texts), metadatas=kept)
        return ChromaHybridRetriever(collection=collection, embeddings=dense, sparse_encoder=sparse)

    @each_mode
    def test_vectors_travel_and_never_the_text(self, collection, stub, sparse, dense, mode):
        retriever = self.filled(collection, sparse, dense, ["fox"], ["fox"])
        assert len(call(mode, retriever, "invoke", "fox")) == 1
        assert "fox" not in str(stub.searches)
        assert str(stub.searches).count("'return_rank': True") == 2

    def test_a_document_that_only_one_ranking_knows_is_found(self, collection, sparse, dense):
        retriever = self.filled(collection, sparse, dense, ["fox", "dog", "cat"], [None, "fox", "bird"])
        assert names(retriever.model_copy(update={"candidates": 1, "k": 2}).invoke("fox")) == ["0", "1"]

    def test_weights_decide_which_ranking_counts(self, collection, sparse, dense):
        retriever = self.filled(collection, sparse, dense, ["fox", "dog"], ["fox fox dog", "fox fox"])
        assert names(retriever.model_copy(update={"weights": (2.0, 1.0)}).invoke("fox", k=1)) == ["0"]
        assert names(retriever.model_copy(update={"weights": (1.0, 2.0)}).invoke("fox", k=1)) == ["1"]
        assert names(retriever.model_copy(update={"weights": (0.0, 1.0)}).invoke("dog")) == ["0"]

    def test_an_expression_of_chromadb_is_a_filter_too(self, collection, sparse, dense):
        retriever = self.filled(collection, sparse, dense, ["fox", "dog"], [None, "fox"])
        assert names(retriever.invoke("fox", filter=chromadb.K("n") == 1)) == ["0"]
        assert len(retriever.invoke("fox", filter={})) == 2

    def test_a_record_without_a_text_is_left_out(self, collection, sparse, dense):
        retriever = self.filled(collection, sparse, dense, ["fox"], ["fox"])
        collection.add(ids=["bare"], embeddings=dense.embed_documents(["fox"]))
        assert names(retriever.invoke("fox")) == ["0"]

    @each_mode
    def test_the_refusal_of_a_local_chroma_says_what_is_missing(self, sparse, dense, mode):
        collection = chromadb.EphemeralClient().get_or_create_collection("docs", embedding_function=None)
        retriever = ChromaHybridRetriever(collection=collection, embeddings=dense, sparse_encoder=sparse)
        with pytest.raises(ConfigurationError, match="Chroma Cloud only"):
            call(mode, retriever, "invoke", "fox")

    def test_the_refusal_of_a_chroma_server_says_what_is_missing(self):
        said = "Error executing plan: Not implemented: Search operation is not implemented for local executor"
        with pytest.raises(ConfigurationError, match="Chroma Cloud only"), explain_refusal():
            raise ChromaError(said)  # the words of `chroma run` 1.5.9
        with pytest.raises(ChromaError, match="another"), explain_refusal():
            raise ChromaError("another")

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ({"collection": None}, "collection= or async_collection="),
            ({"weights": (0, 0)}, "weights"),
            ({"weights": (1, -1)}, "weights"),
            ({"candidates": 0}, "candidates"),
            ({"rrf_k": 0}, "rrf_k"),
        ],
    )
    def test_a_setting_that_cannot_work_is_refused_at_once(self, collection, sparse, dense, wrong, said):
        fields = {"collection": collection, "embeddings": dense, "sparse_encoder": sparse}
        with pytest.raises(ConfigurationError, match=said):
            ChromaHybridRetriever(**fields | wrong)

    def test_without_a_sync_collection_only_ainvoke_works(self, sparse, dense):
        retriever = ChromaHybridRetriever(async_collection=object(), embeddings=dense, sparse_encoder=sparse)
        with pytest.raises(ConfigurationError, match="use the async methods"):
            retriever.invoke("fox")


class TestPineconeHybridRetriever:
    @pytest.fixture
    def stub(self):
        with pinecone_index_stub(dimension=384) as stub:
            yield stub

    @pytest.fixture
    def fields(self, stub, sparse, dense):
        index = Pinecone(api_key="any").Index(host=stub.url)
        return {"index": index, "embeddings": dense, "sparse_encoder": sparse, "score_key": "score"}

    @each_mode
    @pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
    def test_alpha_weighs_the_dense_score_and_the_rest_the_sparse_one(self, fields, sparse, dense, alpha, mode):
        retriever = PineconeHybridRetriever(**fields)
        call(mode, retriever, "add_texts", ["red fox"])
        [document] = call(mode, retriever, "invoke", "fox", alpha=alpha)
        products = zip(dense.embed_query("fox"), dense.embed_documents(["red fox"])[0], strict=True)
        expected = alpha * sum(a * b for a, b in products)
        expected += (1 - alpha) * sparse.embed_query("fox").dot(sparse.embed_documents(["red fox"])[0])
        assert document.metadata["score"] == pytest.approx(expected, rel=1e-5)

    @each_mode
    def test_namespaces_are_apart(self, fields, mode):
        retriever = PineconeHybridRetriever(namespace="one", **fields)
        call(mode, retriever, "add_texts", ["red fox"])
        call(mode, retriever, "add_texts", ["blue fox"], namespace="two")
        assert names(call(mode, retriever, "invoke", "fox")) == ["red fox"]
        assert names(call(mode, retriever, "invoke", "fox", namespace="two")) == ["blue fox"]

    @each_mode
    def test_records_are_as_the_community_retriever_wrote_them(self, fields, stub, mode):
        texts, metadatas = ["red fox", "the of and"], [{"n": 1}, {"n": 2}]
        call(mode, PineconeHybridRetriever(**fields), "add_texts", texts, metadatas=metadatas)
        assert metadatas == [{"n": 1}, {"n": 2}]
        [fox, blank] = [stub.records[""][sha256(text.encode()).hexdigest()] for text in texts]
        assert set(fox) == {"id", "values", "sparseValues", "metadata"}
        assert fox["metadata"] == {"context": "red fox", "n": 1}
        assert "sparseValues" not in blank, "Pinecone refuses empty ones"

    @each_mode
    def test_many_texts_are_upserted_in_parts(self, fields, stub, mode):
        texts = [f"fox {at}" for at in range(70)]
        assert len(call(mode, PineconeHybridRetriever(**fields), "add_texts", texts)) == 70
        assert [len(body["vectors"]) for path, body in stub.requests if path == "vectors/upsert"] == [32, 32, 6]

    def test_a_text_under_another_key_is_an_error_that_says_so(self, fields):
        PineconeHybridRetriever(**fields).add_texts(["fox"], ["7"])
        with pytest.raises(ConfigurationError, match="record '7' has no text under 'text'"):
            PineconeHybridRetriever(text_key="text", **fields).invoke("fox")

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            *(({"texts": texts, "metadatas": metadatas}, said) for texts, metadatas, said in BAD_TEXTS),
            ({"texts": ["fox"], "ids": ["a", "b"]}, "1 texts and 2 ids"),
            ({"texts": ["fox"], "metadatas": [{"context": 1}]}, "metadata 0 has a field 'context'"),
        ],
    )
    @each_mode
    def test_bad_input_is_refused_before_a_request(self, fields, stub, given, said, mode):
        with pytest.raises(ConfigurationError, match=said):
            call(mode, PineconeHybridRetriever(**fields), "add_texts", **given)
        assert stub.requests == []

    @pytest.mark.parametrize(
        ("wrong", "said"), [({"index": None}, "index= or async_index="), ({"alpha": 1.5}, "alpha")]
    )
    def test_a_setting_that_cannot_work_is_refused(self, fields, wrong, said):
        with pytest.raises(ConfigurationError, match=said):
            PineconeHybridRetriever(**fields | wrong)
        if "alpha" in wrong:
            with pytest.raises(ConfigurationError, match=said):
                PineconeHybridRetriever(**fields).invoke("fox", **wrong)

    async def test_with_the_asyncio_client_alone_all_is_done_on_the_loop(self, fields, stub):
        async with Pinecone(api_key="any").IndexAsyncio(host=stub.url) as index:
            retriever = PineconeHybridRetriever(**fields | {"index": None, "async_index": index})
            await retriever.aadd_texts(["red fox"])
            assert names(await retriever.ainvoke("fox")) == ["red fox"]
            for method in (retriever.invoke, retriever.add_texts):
                with pytest.raises(ConfigurationError, match="async"):
                    method("fox")
