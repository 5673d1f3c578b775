# The worker, and nothing else. rdkafka brings librdkafka and OpenSSL as sources, which want a C++ compiler, CMake and Perl.
FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends cmake perl && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked && cp target/release/lakelens /lakelens

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* && useradd --create-home lakelens
COPY --from=build /lakelens /usr/local/bin/lakelens
USER lakelens
ENTRYPOINT ["lakelens"]
