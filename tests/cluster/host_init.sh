#!/bin/bash
# Process 1 of a host (hosts.py): makes its file system private where hosts must differ, and becomes its sshd.
#     host_init.sh NAME FOLDER HOME [PATH ...]      PATH: what stays visible although it lies in /tmp
set -eu
name=$1 folder=$2 home=$3
shift 3
hostname "$name"
mount --make-rprivate /

for path in "$@"; do
    case $path in /tmp/*)
        mkdir -p "$folder$path"
        mount --bind "$path" "$folder$path" ;;
    esac
done
mount --rbind "$folder/tmp" /tmp
mount --bind "$folder/home" "$home"
mount -t tmpfs -o size=9g tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mkdir /run/sshd
sed "s#^root:.*#root:x:0:0:root:$home:/bin/bash#" /etc/passwd > /run/passwd
mount --bind /run/passwd /etc/passwd
mount --bind "$folder/hosts" /etc/hosts
[ ! -e /etc/resolv.conf ] || mount --bind "$folder/resolv.conf" /etc/resolv.conf

cat > /run/sshd_config << END
HostKey $folder/hostkey
AuthorizedKeysFile .ssh/authorized_keys
PasswordAuthentication no
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
PidFile none
MaxStartups 100
Subsystem sftp internal-sftp
END
exec /usr/sbin/sshd -D -e -f /run/sshd_config
