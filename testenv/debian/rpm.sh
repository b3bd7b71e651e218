#!/usr/bin/env bash
# In the guest: netd's rpm from installation to removal, its scriptlets run under systemd. Debian's rpm knows of no package that
# brings /bin/sh, so that --nodeps is needed, and what the package needs is looked at here.
set -uo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
old=$(ls /mnt/test/old/*.rpm) new=$(ls /mnt/test/new/*.rpm)
. /mnt/test/checks.sh
reach() { ip netns exec c1 ping -c1 -W1 10.10.40.130; }
runs() { systemctl show -P MainPID "$1"; }
same() { diff "$1" "$2"; }

say "# What is in it"
check "it needs a shell and nothing else" empty sh -c "rpm -qp --requires $old | grep -v -e '^rpmlib(' -e '^config(netd)' -e '^/bin/sh$'"
check "it brings no folder of the system's" empty sh -c "rpm -qplv $old | grep ^d | grep -v netd"
rpm -qpl "$old" | grep -v -e '/netd$' -e '/examples$' | sed 's#zsh/site-functions#zsh/vendor-completions#' | sort >/tmp/rpm
rpm -qpl "$old" | grep -e '^/usr/sbin/netd$' -e 'completions/netd$' | sort >>/tmp/rpm
dpkg-deb --fsys-tarfile /mnt/test/old/*.deb | tar t | sed 's/^\.//' | grep -v '/$' >/tmp/deb
sort -o /tmp/rpm /tmp/rpm
sort -o /tmp/deb /tmp/deb
check "the files are the Debian package's" same /tmp/deb /tmp/rpm

say "# Install"
check "the package installs" sh -c "rpm -i --nodeps $old | tee /tmp/said"
check "and says what to do" grep -q 'systemctl enable --now netd' /tmp/said
check "every file is as packed" rpm -V --nodeps netd
check "nothing was applied" empty nft list tables
check "no daemon runs, none is enabled" sh -c '! systemctl is-active netd && ! systemctl is-active netd-speaker && ! systemctl is-enabled netd'
check "no configuration was made" absent test -e /etc/netd.hcl
check "systemd knows the unit" systemctl cat netd.service
check "the speaker's user is there" getent passwd netd-speaker
check "the manual" sh -c 'man netd >/dev/null && man netd.hcl >/dev/null'

say "# Edit and start"
for ns in c1 c2; do ip netns add $ns && ip -n $ns link set lo up; done
ip link add ens33 type veth peer name far
ip addr add 192.168.170.137/24 dev ens33
ip link set ens33 up
ip link set far up
cat >/etc/netd.hcl <<'HCL'
network "lab" {
  pools = ["10.10.0.0/16"]
  mode  = "bgp"
}

node "here" {
  address = "192.168.170.137/24"
  blocks  = ["10.10.40.128/26"]
}

workload "one" {
  node    = "here"
  address = "10.10.40.129"
  netns   = "/run/netns/c1"
}

workload "two" {
  node    = "here"
  address = "10.10.40.130"
  netns   = "/run/netns/c2"
}
HCL
echo '# mine' >>/etc/iproute2/rt_protos.d/netd.conf
cp /etc/netd.hcl /tmp/netd.hcl
cp /etc/iproute2/rt_protos.d/netd.conf /tmp/protos
check "the daemon starts" systemctl enable -q --now netd
eventually "in sync" netd status
eventually "from container to container" reach
daemon=$(runs netd) speaker=$(runs netd-speaker)

say "# Upgrade under a stream"
ip netns exec c1 ping -q -i 0.005 -c 3000 10.10.40.130 >/tmp/stream &
stream=$!
sleep 2
check "the new package installs" rpm -U --nodeps "$new"
wait $stream
check "no packet was lost" grep -q ' 0% packet loss' /tmp/stream
grep transmitted /tmp/stream
eventually "in sync" netd status
check "the daemon is the new one" sh -c "[ \"\$(readlink /proc/$(runs netd)/exe)\" = /usr/sbin/netd ] && [ $(runs netd) != $daemon ] && netd version | grep 0.0.2"
check "the speaker too" sh -c "[ $(runs netd-speaker) != $speaker ] && systemctl is-active netd-speaker"
check "still enabled" systemctl is-enabled netd
check "the configuration is as it was" same /tmp/netd.hcl /etc/netd.hcl
check "what was edited of the package's own is, too" same /tmp/protos /etc/iproute2/rt_protos.d/netd.conf
check "and the new package's is beside it" grep -q '^142' /etc/iproute2/rt_protos.d/netd.conf.rpmnew
check "what was not is the new package's" sh -c '[ "$(rpm -V --nodeps netd | grep -c -v rt_protos)" = 0 ]'

say "# Remove, and come back"
check "the package is removed" sh -c 'rpm -e netd | tee /tmp/said'
check "and says what stays" grep -q 'run netd destroy before' /tmp/said
check "no daemon runs, none is enabled" sh -c '! systemctl is-active netd && ! ls /etc/systemd/system/*/netd*'
check "the network stays" reach
check "the configuration stays" same /tmp/netd.hcl /etc/netd.hcl
check "what was edited stays, aside" same /tmp/protos /etc/iproute2/rt_protos.d/netd.conf.rpmsave
check "it is installed again" rpm -i --nodeps "$new"
check "the daemon starts" systemctl enable -q --now netd
eventually "in sync" netd status
check "the network goes" netd destroy -y
check "and so does the package, which has nothing to say" empty rpm -e netd
check "no table is left" empty nft list tables
check "no link is left" empty ip -br link show group 142
check "no route is left" empty ip route show proto 142
check "no process is left" empty sh -c 'ps -eo user:20,args | grep "netd speake[r]"'
check "no file is left" empty find /usr /etc/iproute2 /etc/systemd /etc/NetworkManager -name '*netd*' -not -name '*netdev*' -not -name '*inetd*' -not -name '*.rpmsave' -not -name '*.rpmnew'
check "the configuration stays" same /tmp/netd.hcl /etc/netd.hcl
finish
