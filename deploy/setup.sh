#!/bin/sh
# Installs what is missing to run Wherry from this tree: Debian packages, uv, and the Python packages of uv.lock.
#
#   deploy/setup.sh            what the demonstration needs
#   deploy/setup.sh --tests    also what the tests need
#
# Does nothing, and quickly, where nothing is missing. Ends with one line that says what to do where it cannot go on.
set -eu
umask 022
cd "$(dirname "$0")/.."

lists=deploy/packages.txt
[ "${1:-}" != --tests ] || lists="$lists deploy/packages-test.txt"
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
        cat uv.lock pyproject.toml protos/pyproject.toml services/*/pyproject.toml client/pyproject.toml \
            deploy/pyproject.toml endpoint-kit/pyproject.toml protos/hatch_build.py
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
