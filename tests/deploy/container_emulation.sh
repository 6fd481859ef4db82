# Runs a command as the container would: read-only root, fresh /tmp, no network, a user that no passwd knows.
# usage: unshare -rmn sh container_emulation.sh IN OUT COMMAND ...   (IN and OUT become /media/in and /media/out)
set -eu
mount -t tmpfs tmpfs /media
mkdir /media/in /media/out
mount --bind "$1" /media/in
mount -o remount,bind,ro /media/in
mount --bind "$2" /media/out
shift 2
mount -t tmpfs tmpfs /tmp
mount -o remount,bind,ro /
cd /
exec unshare -U --map-user=10001 --map-group=10001 "$@"
