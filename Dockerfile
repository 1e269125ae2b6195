# syntax=docker/dockerfile:1
# A glibc build on a distroless image, not musl: the fault tests run the same kind of binary,
# mimalloc's C code is built by the image's own compiler, and no cross tool chain is needed. The
# runtime image has no shell and no package manager.
#
#   docker build -t sekali .
#   docker run -d --read-only -v sekali-data:/data -p 127.0.0.1:8080:8080 sekali
#
# Other containers that ask it by a name, as http://sekali:8080, need that name allowed:
# serve --allowed-host sekali
# The line tables of the same build, for the backtrace of a panic: docker build --target debug -o . .

# A release names both by digest (.github/workflows/release.yml), so that what it was built from and
# runs on can be checked.
ARG BUILD_IMAGE=rust:1.95-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${BUILD_IMAGE} AS build
WORKDIR /build
# The program then carries the list of its dependencies, which scanners of images read.
RUN cargo install --locked cargo-auditable@0.7.7
# Dependencies in a layer of their own: it is built anew only when the manifests change.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src \
 && echo '' > src/lib.rs \
 && echo 'fn main() {}' > src/main.rs \
 && sed -i '/^\[\[bench\]\]/,/^$/d' Cargo.toml \
 && cargo auditable build --profile dist --locked \
 && rm -r src

COPY Cargo.toml Cargo.lock ./
COPY benches benches
COPY page page
COPY src src
# Newer than the stubs, or cargo would take those for built.
RUN find src -type f -exec touch {} + \
 && cargo auditable build --profile dist --locked --bin sekali \
 && objcopy --only-keep-debug target/dist/sekali sekali.debug \
 && objcopy --strip-debug --add-gnu-debuglink=sekali.debug target/dist/sekali sekali \
 && mkdir /data

FROM scratch AS debug
COPY --from=build /build/sekali.debug /

FROM ${RUNTIME_IMAGE}
COPY --from=build /build/sekali /usr/local/bin/sekali
# Owned by the user below, so that a fresh volume is writable.
COPY --from=build --chown=65532:65532 /data /data
ENV SEKALI_DATA_DIR=/data \
    SEKALI_LISTEN=0.0.0.0:8080
USER 65532:65532
WORKDIR /data
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["/usr/local/bin/sekali", "health"]
ENTRYPOINT ["/usr/local/bin/sekali"]
CMD ["serve"]
