# `just` alone does what CI checks.
default: fmt-check lint deny test doc

# Is everything formatted?
fmt-check:
    cargo fmt --check

# Clippy and rustc, every warning an error.
lint:
    cargo clippy --all-targets --locked -- -D warnings

# All tests: policies, pipeline, and the whole binary over real sockets.
test:
    cargo nextest run

# Every write has exactly one owner: kills Fender so many times, and holds a ledger of everyone's acts against what it kept.
prove ROUNDS="1000":
    FENDER_PROVE_ROUNDS={{ROUNDS}} cargo nextest run --no-capture -E 'test(/^prove::/)'

# Nothing accepted is lost when the power goes: cuts it so many times in each kind of work, on disks of its own. Needs root,
# mkfs.ext4, mkfs.xfs and python3.
power ROUNDS="300":
    FENDER_POWER_ROUNDS={{ROUNDS}} cargo nextest run --no-capture -E 'test(/^deadletter::power::/)'

# Faults of everything at once, reloads and kills for so many seconds: every write has one owner, and nothing grows. Needs cc.
soak SECONDS="7200":
    FENDER_SOAK={{SECONDS}} cargo nextest run --cargo-profile fast --no-capture -E 'test(/^prove::soak::/)'

# Whatever call of the disk fails, nothing accepted is lost and the store recovers: tries so many faults, or `all`. Needs cc.
inject FAULTS="1000":
    FENDER_INJECT={{FAULTS}} cargo nextest run --no-capture -E 'test(/^deadletter::inject::/)'

# A great backlog costs neither memory nor time, and drains beside captures: so many letters of 1 to 16 KiB.
scale LETTERS="1000000":
    FENDER_SCALE={{LETTERS}} cargo nextest run --no-capture -E 'test(/^deadletter::scale::/)'

# What rots in the store's files is told, and nothing false goes up: tries so many places of each kind.
rot PLACES="2000":
    FENDER_ROT={{PLACES}} cargo nextest run --no-capture -E 'test(/^deadletter::rot::/)'

# Licences, duplicates, sources and bans of what we depend on.
deny:
    cargo deny check bans licenses sources

# The proxy as shipped, one static binary, against direct and against plain forwarders, in one run; fails beyond the limits.
bench *ARGS: release
    FENDER_BENCH_BINARY="${CARGO_TARGET_DIR:-target}/$(uname -m)-unknown-linux-gnu/release/fender" cargo bench --locked --bench proxy -- --check {{ARGS}}

# Event streams through Fender, direct and through others; fails beyond the limits. FENDER_BENCH_ENVOY names Envoy's binary.
bench-stream *ARGS:
    cargo bench --locked --bench stream -- --check {{ARGS}}

# What each decision costs, and a refusal from end to end; fails beyond the limits.
bench-policy *ARGS:
    cargo bench --locked --bench policy -- --check {{ARGS}}

# The store against a bare file with fdatasync, and what a great backlog costs; fails beyond the limits.
bench-deadletter *ARGS:
    cargo bench --locked --bench deadletter -- --check {{ARGS}}

# Fender as shipped, one static binary, beside nginx, HAProxy, Envoy and plain forwarders (`benches/compare/install` gets them), interleaved;
# `just compare --help` tells what can be chosen.
compare *ARGS: release
    install -D "${CARGO_TARGET_DIR:-target}/$(uname -m)-unknown-linux-gnu/release/fender" "${CARGO_TARGET_DIR:-target}/tmp/compare/fender"
    FENDER_BENCH_BINARY="${CARGO_TARGET_DIR:-target}/tmp/compare/fender" cargo bench --locked --bench compare -- {{ARGS}}

# Does the comparison itself still work? A moment of each case, unoptimised: its figures say nothing.
compare-trial:
    cargo bench --locked --profile dev --bench compare -- --peers fender,lean --rounds 1 --slice 100ms

# Instructions in user space for one request, by callgrind; fails beyond the record by more than a tenth. `--write` renews it,
# `--keep FOLDER` keeps what callgrind wrote.
instructions *ARGS:
    cargo build --release --locked
    FENDER_BENCH_BINARY="${CARGO_TARGET_DIR:-target}/release/fender" cargo bench --locked --profile dev --bench compare -- instructions {{ARGS}}

# Run the proxy with a config file.
run CONFIG *ARGS:
    cargo run --release --locked -- run --config {{CONFIG}} {{ARGS}}

# The API documentation, every warning an error.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked --document-private-items

# Writes the config reference anew: from the schema and the defaults.
docs:
    FENDER_UPDATE_DOCS=1 cargo nextest run -E 'test(/^docs::reference::/)'

# One static binary for any Linux of this architecture; an explicit target keeps the flags away from build scripts. A static
# glibc has no symbol for the library to find getrandom by: asked for it directly, it needs no /dev/random either. The functions that
# run stand side by side (docs/adr/0019).
release:
    RUSTFLAGS='-C target-feature=+crt-static -C link-arg=-Wl,-T,deploy/link/used.ld --cfg getrandom_backend="linux_getrandom"' cargo build --release --locked --target "$(uname -m)-unknown-linux-gnu"

# Looks anew which functions run at the start and for requests; needs valgrind. After an upgrade of the compiler or of what is on a
# request's way.
link-order:
    RUSTFLAGS='-C target-feature=+crt-static -C strip=none --cfg getrandom_backend="linux_getrandom"' cargo build --release --locked --target "$(uname -m)-unknown-linux-gnu"
    deploy/link/record "${CARGO_TARGET_DIR:-target}/$(uname -m)-unknown-linux-gnu/release/fender"
    # Cargo does not know that the next `just release` needs it.
    touch src/main.rs
