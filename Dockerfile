# The gateway as an image. `docker build -t cryptopay .`; docs/OPERATIONS.md says how to run it, compose.yaml does.
# No build argument and no secret goes in.

# The version is that of rust-toolchain.toml, which stays out: it would install lints too. A test compares them.
FROM rust:1.95.0-slim-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock chains.toml ./
COPY api api
COPY chain chain
COPY domain domain
COPY entity entity
COPY jobs jobs
COPY ledger ledger
COPY migration migration
COPY sandbox sandbox
COPY test-support test-support
RUN cargo build --release --locked --package cryptopay-api --bin cryptopay

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/cryptopay --create-home cryptopay
COPY --from=build /src/target/release/cryptopay /usr/local/bin/cryptopay
USER 10001
WORKDIR /var/lib/cryptopay
ENV CRYPTOPAY_BIND=0.0.0.0:8080
ENV CRYPTOPAY_DATA_DIR=/var/lib/cryptopay
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["cryptopay", "health"]
ENTRYPOINT ["cryptopay"]
CMD ["serve"]
