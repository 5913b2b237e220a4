# Mailstream, its model and tesseract in one image that needs no network of its own:
#
#   docker build --tag mailstream .
#
# torch from the locked packages brings 3 GB for graphics cards that nobody here uses. With the address of an index of
# CPU wheels, and the hash of the wheel that suits, the image is a quarter of that:
#
#   docker build --build-arg TORCH_INDEX=ADDRESS --build-arg TORCH_SHA256=HASH --tag mailstream .
#
# For a build that can be repeated, BASE with its digest (python:3.11-slim-bookworm@sha256:...).
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /build
COPY scripts/uv.lock scripts/image_lock.py scripts/
RUN pip install --no-cache-dir --disable-pip-version-check --require-hashes --requirement scripts/uv.lock \
    && python -m venv /opt/mailstream
ENV UV_PYTHON=/opt/mailstream/bin/python \
    UV_COMPILE_BYTECODE=1 \
    UV_NO_CACHE=1

# The packages first: they change more seldom than the program. The lock is complete, so nothing else is looked for.
COPY pyproject.toml requirements.lock ./
ARG TORCH_INDEX=
ARG TORCH_SHA256=
RUN if [ -n "$TORCH_INDEX" ]; then \
        version="$(sed -nE 's/^torch==([^ ]+).*/\1/p' requirements.lock)" \
        && echo "torch==${version}+cpu --hash=sha256:${TORCH_SHA256:?the wheel of torch needs its hash}" > torch.lock \
        && uv pip install --no-deps --require-hashes --index-url "$TORCH_INDEX" --requirement torch.lock \
        && python scripts/image_lock.py --without-torch > image.lock; \
    else \
        python scripts/image_lock.py > image.lock; \
    fi \
    && uv pip install --no-deps --require-hashes --requirement image.lock

COPY . .
RUN uv pip install --no-deps --no-build-isolation . \
    && uv pip check \
    && /opt/mailstream/bin/python -m connectors.minilm

FROM ${BASE}
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
ARG TESSERACT_LANGUAGES=eng
# The versions are the base image's release; a digest of BASE holds them as still as Debian's archive allows.
# hadolint ignore=DL3008
RUN apt-get update \
    && languages="$(echo "$TESSERACT_LANGUAGES" | tr ',_' ' -')" \
    && for language in $languages; do set -- "$@" "tesseract-ocr-$language"; done \
    && apt-get install --yes --no-install-recommends tini tesseract-ocr libarchive13 "$@" \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin mailstream \
    && install --directory --owner mailstream --group mailstream --mode 0700 /var/lib/mailstream /keys

COPY --from=build /opt/mailstream /opt/mailstream
COPY scripts/sbom.py /tmp/
ENV PATH=/opt/mailstream/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HF_HUB_OFFLINE=1 \
    HOME=/tmp \
    STATE_DIRECTORY=/var/lib/mailstream
# What is in here, and that the models can be loaded by who will, from here alone.
RUN mkdir -p /usr/share/sbom \
    && python /tmp/sbom.py > /usr/share/sbom/mailstream.cdx.json \
    && rm /tmp/sbom.py
USER 10001:10001
RUN python -c "from connectors.encoder import open_encoder; [open_encoder(name) for name in ('minilm', 'multilingual')]"

WORKDIR /var/lib/mailstream
# As the first process it would have to bury parsers that its own children left behind.
ENTRYPOINT ["tini", "--", "mailstream"]
CMD ["--help"]
