variable "mode" {}

network "lab" {
  pools = ["10.10.0.0/16"]
  mode  = var.mode
}

node "baihl-master" {
  address = "192.168.170.137/24"
  blocks  = ["10.10.40.128/26"]
}

node "baihl-node" {
  address = "192.168.170.138/24"
  blocks  = ["10.10.194.128/26"]
}

workload "nginx-master" {
  node    = "baihl-master"
  address = "10.10.40.129"
  netns   = "/run/netns/nginx-master"
}

workload "nginx-node" {
  node    = "baihl-node"
  address = "10.10.194.134"
  netns   = "/run/netns/nginx-node"
}
