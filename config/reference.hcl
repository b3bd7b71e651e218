# Every option of netd, with its default or an example. Optional lines can be left out.
# The file is the same on every host. Text after # or // is a comment.

# Variables are set by NETD_VAR_pool or by --var pool=…; the default counts where neither is given.
variable "pool" {
  default = "10.10.0.0/16"
}

# Locals are names for expressions.
locals {
  rack_a = cidrsubnet(var.pool, 4, 2) # 10.10.32.0/20
}

network "lab" {
  pools         = [var.pool, "fd10::/48"] # required: IPv4 and IPv6
  mode          = "vxlan"                 # required: ipip, vxlan or bgp
  encapsulate   = "always"                # or "cross-subnet": bare within a subnet
  receive       = []                      # modes accepted besides: the step between two modes
  nat_outgoing  = true                    # masquerade what leaves for an address in no pool
  nat_outgoing6 = false                   # the same for IPv6
  nat_exempt    = ["192.168.0.0/16"]      # but not for these
  mtu           = 1450                    # derived from the underlay link where left out
  reserved      = ["10.10.40.130"]        # never handed out automatically

  vxlan {
    vni  = 4096
    port = 4789
  }
}

node "baihl-master" {
  address         = "192.168.170.137/24"   # the host's own, as on its interface
  address6        = "2001:db8:170::137/64" # optional
  router_id       = "192.168.170.137"      # the BGP identifier; address where left out
  blocks          = [cidrsubnet(local.rack_a, 6, 34), "fd10:0:0:1::/64"]
  interface       = "ens33"           # the link that holds address where left out
  asn             = 64512             # bgp.asn where left out
  route_reflector = "192.168.170.137" # a cluster id: this node reflects
  labels          = { rack = "a" }    # for a peer's match_labels
}

node "baihl-node" {
  address  = "192.168.170.138/24"
  address6 = "2001:db8:170::138/64"
  blocks   = ["10.10.194.128/26", "fd10:0:0:2::/64"]
}

# What all sessions share. Nodes have sessions with each other only where a network has mode bgp.
bgp {
  asn              = 64512
  mesh             = true # on while no node is a route reflector
  listen_port      = 179
  password_file    = "/etc/netd/mesh.secret" # TCP MD5; owned by root, mode 0600
  graceful_restart = "120s"                  # "0s": off
  hold_time        = "9s"
  multipath        = true
  advertise        = ["blocks"] # also "workloads": each container's /32
  ttl_security     = true       # GTSM; where left out, on within a subnet
}

# A router outside the file.
peer "tor" {
  address       = "192.168.170.1"
  asn           = 65100
  nodes         = ["baihl-master"] # all nodes where left out
  port          = 179
  password_file = "/etc/netd/tor.secret"
  multihop      = 2 # directly attached where left out
  passive       = false
  hold_time     = "30s"                      # bgp.hold_time where left out
  import        = ["10.0.0.0/8 ge 16 le 24"] # nothing from another AS where left out
  export        = ["10.10.40.128/26"]        # the node's own blocks where left out
  communities   = ["65000:1", "65000:1:2", "no-peer"]
  prepend       = 0    # times the own AS, on export
  local_pref    = 100  # on import
  max_prefixes  = 1000 # a family; more closes the session
  next_hop_self = true
  default_route = false # accept 0.0.0.0/0 and ::/0
}

peer "core" {
  address      = "192.168.170.2"
  asn          = 65100
  match_labels = { rack = "a" } # instead of nodes
  ttl_security = false          # on: the router must send TTL 255
}

# A container that the file declares. One of docker, containerd and netns.
workload "nginx-master" {
  node      = "baihl-master"
  address   = ["10.10.40.129", "fd10:0:0:1::129"] # one, or an IPv4 and an IPv6
  docker    = "nginx-master"                      # name or id
  interface = "eth0"
  mac       = "02:00:00:00:00:01" # computed where left out
  network   = "lab"               # only checked
}

workload "nginx-node" {
  node       = "baihl-node"
  address    = "10.10.194.134"
  containerd = "default/nginx" # namespace/id
}

workload "probe" {
  node    = "baihl-node"
  address = "10.10.194.135"
  netns   = "/run/netns/probe"
}

daemon {
  on_change = "apply" # or "hold": wait for netd apply
  http      = "127.0.0.1:9142"
}
