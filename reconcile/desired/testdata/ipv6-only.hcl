variable "mode" {}

network "lab" {
  pools = ["10.10.0.0/16", "fd00:10::/48"]
  mode  = var.mode
}

node "baihl-master" {
  address6 = "2001:db8:170::137/64"
  blocks   = ["10.10.40.128/26", "fd00:10:0:28::/64"]
}

node "baihl-node" {
  address6 = "2001:db8:170::138/64"
  blocks   = ["10.10.194.128/26", "fd00:10:0:c2::/64"]
}

workload "nginx-master" {
  node    = "baihl-master"
  address = ["10.10.40.129", "fd00:10:0:28::129"]
  netns   = "/run/netns/nginx-master"
}
