# The local provider on a CPU, see docs/models.md. Weights are not in the image: mount what the Hugging Face hub's tools
# have downloaded.
#
#   docker build -t sparse-embed .
#   docker run -p 127.0.0.1:8900:8900 -e SPARSE_EMBED_SERVER_KEY -v ~/.cache/huggingface:/weights:ro sparse-embed \
#     --model prithivida/Splade_PP_en_v1

FROM python:3.13-slim AS build
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheel .

FROM python:3.13-slim
# For BM25 and hashing alone: --build-arg EXTRAS=cli; that image has no PyTorch.
ARG EXTRAS=cli,models
# PyTorch's own index has builds without CUDA, which would add 4 GB.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN case ",$EXTRAS," in *,models,*) pip install --no-cache-dir --index-url "$TORCH_INDEX" torch ;; esac
# A new volume takes the owner of the folder that it is mounted on.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin sparse-embed \
    && install --directory --owner sparse-embed /weights
RUN --mount=type=bind,from=build,source=/wheel,target=/wheel \
    pip install --no-cache-dir "$(echo /wheel/*.whl)[$EXTRAS]"
ENV HF_HOME=/weights PYTHONUNBUFFERED=1
# glibc raises these by itself, and then keeps the memory of batches of ever other sizes.
ENV MALLOC_MMAP_THRESHOLD_=1048576 MALLOC_TRIM_THRESHOLD_=1048576
USER 10001
EXPOSE 8900
# Probes that fail while models load do not count.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10m \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8900/health', timeout=4)"]
# Further options follow the image's name; the key comes from the environment.
ENTRYPOINT ["sparse-embed", "serve", "--host", "0.0.0.0", "--port", "8900"]
