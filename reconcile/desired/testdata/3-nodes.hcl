# As two nodes, with a third: two blocks, one of them a single address, a container in it, no masquerade for a subnet.
variable "mode" {}

network "lab" {
  pools        = ["10.10.0.0/16", "10.20.0.0/16"]
  mode         = var.mode
  nat_outgoing = true
  nat_exempt   = ["192.168.0.0/16"]
}

node "baihl-master" {
  address = "192.168.170.137/24"
  blocks  = ["10.10.40.128/26"]
}

node "baihl-node" {
  address = "192.168.170.138/24"
  blocks  = ["10.10.194.128/26"]
}

node "baihl-third" {
  address = "192.168.170.139/24"
  blocks  = ["10.20.7.9/32", "10.20.8.0/24"]
}

workload "nginx-master" {
  node    = "baihl-master"
  address = "10.10.40.129"
  netns   = "/run/netns/nginx-master"
}

workload "alone" {
  node    = "baihl-third"
  address = "10.20.7.9"
  netns   = "/run/netns/alone"
}
