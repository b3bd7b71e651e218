variable "mode" {}

network "lab" {
  pools         = ["10.10.0.0/16", "fd00:10::/48"]
  mode          = var.mode
  nat_outgoing6 = true
}

node "baihl-master" {
  address  = "192.168.170.137/24"
  address6 = "2001:db8:170::137/64"
  blocks   = ["10.10.40.128/26", "fd00:10:0:28::/64"]
}

node "baihl-node" {
  address  = "192.168.170.138/24"
  address6 = "2001:db8:170::138/64"
  blocks   = ["10.10.194.128/26", "fd00:10:0:c2::/64"]
}

workload "nginx-master" {
  node    = "baihl-master"
  address = ["10.10.40.129", "fd00:10:0:28::129"]
  netns   = "/run/netns/nginx-master"
}

workload "nginx-node" {
  node    = "baihl-node"
  address = "fd00:10:0:c2::134"
  netns   = "/run/netns/nginx-node"
}
