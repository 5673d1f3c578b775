# syntax=docker/dockerfile:1
# The worker. Two images:
#   docker build --target worker     -t lakelens .              no model inside: mount one, or build an image FROM this one that copies yours
#   docker build --target with-model -t lakelens:with-model .   with the bundled network of surfaces, to try everything with (the default)
# Both run as 65532, need no writable file but what the pipeline writes, and have neither shell nor package manager.
# The commit goes into --version and the metrics:  --build-arg REVISION=$(git rev-parse --short=7 HEAD)

# Debian 12 is what the base below is, too: both have the same libc. It has C, make and perl, for librdkafka and OpenSSL are built from their sources.
FROM rust:1.95.0-bookworm AS build
WORKDIR /src
COPY . .
# What the demo would draw on is no part of a worker.
RUN rm -rf surfaces/model
ARG REVISION=unknown
ARG CARGO_BUILD_JOBS
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    LAKELENS_REVISION="$REVISION" cargo build --release --locked --bin lakelens && strip --strip-debug -o /lakelens target/release/lakelens

# libc, libgcc and the certificates of authorities, and that is all.
FROM gcr.io/distroless/cc-debian12:nonroot AS worker
LABEL org.opencontainers.image.title="lakelens" \
      org.opencontainers.image.description="Labels and embeds an image lake" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=build /lakelens /usr/local/bin/lakelens
WORKDIR /lakelens
# A number, so that Kubernetes can see that it is not root's.
USER 65532:65532
EXPOSE 9464
# The worker drains on it: allow it 40 s before it is killed (docker run --stop-timeout 40).
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/lakelens"]

FROM worker AS with-model
COPY --chown=0:0 surfaces/model/model.onnx surfaces/model/model.yaml surfaces/model/labels.txt surfaces/model/README.md /models/surfaces/
ENV MODEL=/models/surfaces
