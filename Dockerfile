# syntax=docker/dockerfile:1
#
#   docker build -t rdvfi .                          for the processor, about 2 GB
#   docker build -t rdvfi:cuda --target cuda .       for NVIDIA GPUs, about 7 GB
#
#   docker run --rm -v "$PWD:/work" rdvfi interpolate in.mp4 out.mp4 --multiplier 4
#   docker run --rm --gpus all -v "$PWD:/work" rdvfi:cuda interpolate in.mp4 out.mp4 --multiplier 4
#   docker run --rm -p 7860:7860 rdvfi serve --host 0.0.0.0
#
# docs/guides/install.md says more.
ARG PYTHON=3.12

# The package alone: changes of the code below do not install torch again.
FROM python:${PYTHON}-slim AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

# What both have in common: rights of nobody in particular, a folder for files, a place for what is fetched.
FROM python:${PYTHON}-slim AS base
ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    HF_HOME=/cache/huggingface \
    TRITON_CACHE_DIR=/cache/triton
RUN useradd --create-home --uid 1000 rdvfi \
    && mkdir /work /cache \
    && chmod 1777 /work /cache
WORKDIR /work

FROM base AS cuda
# Triton compiles a launcher in C for its kernels when they run first. Debian keeps one version of a compiler at a time.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
RUN pip install "torch==2.13.*"
COPY --from=wheel /wheels /wheels
RUN pip install "$(echo /wheels/*.whl)[demo]" && rdvfi --version
USER 1000
EXPOSE 7860
ENTRYPOINT ["rdvfi"]
CMD ["--help"]

# The last stage is what is built without --target.
FROM base AS cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --index-url "${TORCH_INDEX}" "torch==2.13.*"
COPY --from=wheel /wheels /wheels
RUN pip install "$(echo /wheels/*.whl)[demo]" && rdvfi --version
USER 1000
EXPOSE 7860
ENTRYPOINT ["rdvfi"]
CMD ["--help"]
