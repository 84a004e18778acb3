# Two targets of one recipe:
#   docker build --target cpu  -t threadmatch:cpu .
#   docker build --target cuda -t threadmatch:cuda .
# Both stand on the slim Python image. The CUDA libraries come as wheels with torch and faiss-gpu, in the versions that they
# were built with, so an image of NVIDIA's would only add a second copy; the host brings the driver and its container toolkit.
# The locks are constraints: what is installed has the locked version, what only tests and training need stays out.

ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# --- dependencies, in layers that change with the locks only ---
FROM ${PYTHON_IMAGE} AS dependencies
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# setuptools wants the folder that packages are looked for in, also while it is empty.
RUN python -m venv /opt/threadmatch && mkdir -p /src/src
ENV PATH=/opt/threadmatch/bin:$PATH
WORKDIR /src
# The project without its code: enough for pip to read which dependencies it has.
COPY pyproject.toml README.md LICENSE ./

FROM dependencies AS build-cpu
# An index with CPU builds of torch makes a far smaller image: --build-arg PIP_EXTRA_INDEX_URL=...
ARG PIP_EXTRA_INDEX_URL=
# cpu,otel,cluster for galleries past one machine (docs/cluster.md).
ARG EXTRAS=cpu,otel
COPY requirements.lock ./
RUN pip install --constraint requirements.lock ".[${EXTRAS}]" && pip uninstall --yes threadmatch
COPY model ./model
COPY indexer ./indexer
COPY service ./service
COPY src ./src
RUN pip install --no-deps .

FROM dependencies AS build-cuda
COPY requirements-gpu.lock ./
RUN pip install --constraint requirements-gpu.lock '.[gpu,otel]' && pip uninstall --yes threadmatch
COPY model ./model
COPY indexer ./indexer
COPY service ./service
COPY src ./src
RUN pip install --no-deps .

# --- what runs: no compiler (but for CUDA), no pip cache, no root, nothing written outside /tmp and the gallery ---
FROM ${PYTHON_IMAGE} AS runtime
LABEL org.opencontainers.image.title="threadmatch" \
      org.opencontainers.image.description="A street photo in, the same garment in the shop's catalogue out" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 threadmatch \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin threadmatch \
    && install --directory --owner=10001 --group=10001 /gallery /catalogue /keys
ENV PATH=/opt/threadmatch/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    TMPDIR=/tmp \
    XDG_CACHE_HOME=/tmp/cache \
    HF_HOME=/tmp/huggingface \
    TORCH_HOME=/tmp/torch
USER 10001:10001
WORKDIR /tmp
EXPOSE 8000
# Ready means: a gallery is open and the model answers. A job that serves nothing switches this off.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import httpx; httpx.get('http://127.0.0.1:8000/health/ready', timeout=4).raise_for_status()"]
ENTRYPOINT ["threadmatch"]
CMD ["--help"]

# Triton compiles the matching kernels for the GPU that it finds, and their launcher with a C compiler; without one torch
# matches (docs/gpu.md).
FROM runtime AS cuda
USER 0
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
USER 10001:10001
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build-cuda /opt/threadmatch /opt/threadmatch

# The last target is the one that a plain `docker build .` makes.
FROM runtime AS cpu
COPY --from=build-cpu /opt/threadmatch /opt/threadmatch
