#!/bin/sh
# Makes of system.tar in this directory disk.qcow2, with the system on its first partition, and puts the system's
# kernel, its initramfs and the key that it takes beside it.
set -eu
PATH=$PATH:/usr/sbin:/sbin

mkdir system
tar -x -f system.tar -C system --numeric-owner --exclude './dev/*'
rm system.tar
mv system/root/key .
cp system/boot/vmlinuz-* vmlinuz
cp system/boot/initrd.img-* initrd.img

truncate -s 1G disk.raw
echo 'start=2048, type=83' | sfdisk --quiet --label dos disk.raw
# The first MiB is the partition table's.
mke2fs -q -t ext4 -E offset=1048576 -d system disk.raw 1023M
rm -r system
qemu-img convert -f raw -O qcow2 disk.raw disk.qcow2
rm disk.raw
