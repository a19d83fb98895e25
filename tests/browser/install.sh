#!/bin/sh
# Installs what the tests in a browser need beside Python packages: Chromium, and a font with Chinese letters. Where that
# may not be done it says so, and these tests are skipped.
set -u

chromium=${TEST_CHROMIUM:-/usr/bin/chromium}
[ -x "$chromium" ] && fc-list :lang=zh 2>/dev/null | grep -q . && exit 0

wanted="chromium fonts-noto-cjk"
if [ "$(id -u)" = 0 ]; then
    as_root=
elif sudo -n true 2>/dev/null; then
    as_root="sudo -n"
else
    as_root=none
fi
if [ "$as_root" != none ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086
    $as_root apt-get update -qq && $as_root apt-get install -y -qq --no-install-recommends $wanted >/dev/null
fi
if [ ! -x "$chromium" ]; then
    echo "The tests in a browser are left out: there is no $chromium, and it could not be installed here." >&2
    echo "As root: apt-get install $wanted; or name another Chromium by TEST_CHROMIUM." >&2
fi
exit 0
