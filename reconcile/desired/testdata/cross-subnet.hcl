variable "mode" {}

network "lab" {
  pools       = ["10.10.0.0/16"]
  mode        = var.mode
  encapsulate = "cross-subnet"
}

node "baihl-master" {
  address = "192.168.170.137/24"
  blocks  = ["10.10.40.128/26"]
}

node "baihl-node" {
  address = "192.168.170.138/24"
  blocks  = ["10.10.194.128/26"]
}

node "baihl-far" {
  address = "192.168.171.10/24"
  blocks  = ["10.10.7.0/26"]
}
