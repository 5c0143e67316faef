# What run, check and test need on the machine. Sourced by them, from the repository's top directory.

PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:/usr/sbin:/sbin

say() { printf '\n== %s\n' "$*"; }

die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "root is needed for: $*"
    fi
}

# Installs the Debian packages that are missing. Elsewhere it only says which those would be.
need_packages() {
    local package missing=()
    if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
        echo "This is not Debian: what these packages hold has to be there already: $*"
        return
    fi
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] && return
    say "installing ${missing[*]}"
    as_root apt-get update -q
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
}

# Rust does not come with Debian in a version that is new enough, and it is the user's to choose how to get it.
need_cargo() {
    local wanted found
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    command -v cargo >/dev/null ||
        die "cargo is missing. Install Rust $wanted or newer, then run this again. With rustup, from https://rustup.rs:
  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
    found=$(cargo --version | cut -d' ' -f2)
    [ "$(printf '%s\n' "$wanted" "${found%%-*}" | sort -V | head -n 1)" = "$wanted" ] ||
        die "cargo is version $found, $wanted or newer is needed. With rustup (https://rustup.rs): rustup update stable"
}

# need_tool PROGRAM VERSION [OPTIMISATION]: a program from crates.io, in any version if there is one already. Link-time
# optimisation and, for a program with little to compute, optimisation at all would double the time it takes to build.
need_tool() {
    command -v "$1" >/dev/null && return
    say "installing $1 $2 (once)"
    env -u CARGO_TARGET_DIR CARGO_PROFILE_RELEASE_OPT_LEVEL="${3:-3}" CARGO_PROFILE_RELEASE_LTO=off \
        CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 cargo install --quiet --locked "$1@$2"
}
