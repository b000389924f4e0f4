#!/bin/sh
# Makes of a fresh Debian in the directory $1 a guest that boots from its disk, takes a password on its serial port
# and a key by network, and does nothing on its own. The key is left in /root, for whoever makes the disk.
set -eu
root=$1

echo debian >"$root/etc/hostname"
echo '127.0.0.1 localhost debian' >"$root/etc/hosts"
echo '/dev/vda1 / ext4 defaults 0 1' >"$root/etc/fstab"
echo 'root:ballast' | chroot "$root" chpasswd

cat >"$root/etc/systemd/network/lan.network" <<'NETWORK'
[Match]
Name=en* eth*

[Network]
Address=10.7.0.2/24
NETWORK
# An emulator in an emulator is slow.
mkdir -p "$root/etc/systemd/system.conf.d"
cat >"$root/etc/systemd/system.conf.d/patience.conf" <<'PATIENCE'
[Manager]
DefaultTimeoutStartSec=15min
DefaultTimeoutStopSec=5min
DefaultDeviceTimeoutSec=15min
PATIENCE
# Nobody answers there, and there is nothing to scrub.
chroot "$root" systemctl --quiet disable apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service
chroot "$root" systemctl --quiet enable systemd-networkd

mkdir -p -m 700 "$root/root/.ssh"
chroot "$root" ssh-keygen -q -t ed25519 -N '' -C lab -f /root/key
mv "$root/root/key.pub" "$root/root/.ssh/authorized_keys"
