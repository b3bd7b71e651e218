# `make` shows the targets.
.DEFAULT_GOAL := help
GO ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

.PHONY: help
help: ## show this
	@awk -F':.*## ' '/^[a-z -]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## bin/netd, static
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/netd ./cmd/netd
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o bin/netd-cni ./cmd/netd-cni

.PHONY: deps
deps:
	@testenv/deps.sh

# Labs wait for real timers more than they compute: three parts run at a time on two processors, the longest first.
# What fails is run again, twice at most, and the last lines of its part say so ("DONE 2 runs").
parts := hosts bgp containers guests core
.PHONY: test
test: deps ## every test; those that need root say so where they cannot run
	@$(GO) build ./...
	@$(MAKE) --no-print-directory --jobs=$$(($$(nproc) * 3 / 2)) --keep-going $(parts:%=test-%)

runtimes := Docker|CNI|Containerd|Nomad|Nerdctl|Published|Churn
tests = $(GO) tool gotestsum --format pkgname-and-test-fails --rerun-fails=2 --rerun-fails-max-failures=5 --packages "$(1)" -- -count=1 -timeout 40m $(2)
.PHONY: $(parts:%=test-%)
test-core:
	@$(call tests,$$($(GO) list ./... | grep -v -e /cmd/netd$$ -e /testenv/bgp$$))
test-bgp:
	@$(call tests,./testenv/bgp)
test-containers:
	@$(call tests,./cmd/netd,-run '$(runtimes)')
test-hosts:
	@$(call tests,./cmd/netd,-skip '$(runtimes)')
test-guests:
	@said=$$($(MAKE) --no-print-directory vm 2>&1) && failed= || failed=1; printf '%s\n' "$$said"; [ -z "$$failed" ]

.PHONY: lab
lab: deps ## the labs alone: hosts as network namespaces, with BIRD, FRR, Docker and containerd (LAB=regexp)
	$(GO) test -count=1 -v -timeout 40m -run '$(or $(LAB),.)' ./cmd/netd ./testenv/bgp ./reconcile/kernel ./reconcile/workload/...

.PHONY: guest
guest: deps
	@testenv/vm/kernel.sh bin/guest
	CGO_ENABLED=0 $(GO) build -o bin/vm ./testenv/vm

# The guest's kernel has the module that many hosts lack; the tests are the same.
.PHONY: vm
vm: guest ## the mode ipip, bonds and VLANs, a clock that is set back, and kernels that lack something, in a guest kernel under QEMU
	$(call guest,./reconcile/kernel,TestConverge/ipip TestContract/ipip)
	$(call guest,./cmd/netd,TestWalkthrough/ipip TestHostile/ipip TestTunl0/ipip TestBareAnswers/ipip TestCNI/ipip)
	$(call guest,./cmd/netd,TestKilled/ipip)
	$(call guest,./cmd/netd,TestCrossSubnet/ipip TestSmallPath/ipip TestUnderlayChanges/ipip)
	$(call guest,./cmd/netd,TestUnderlayKinds)
	$(call guest,./cmd/netd,TestReceive TestModeAlone TestClockJumps)
	$(call guest,./reconcile/speaker,TestClockSetBack)
	$(call guest,./cmd/netd,TestDoctorGuest,-later vxlan$(comma)ipip)
	$(call guest,./cmd/netd,TestLacking,-append ipv6.disable=1 -later nf_tables$(comma)nft_$(comma)vxlan)

# Debian 11's, which does not say of an address who put it there, and whose counters are a module.
.PHONY: old-kernel
old-kernel: guest ## the labs of all three modes on Linux 5.10, in a guest kernel under QEMU
	@testenv/vm/kernel.sh bin/guest-5.10 bullseye
	$(call guest,./reconcile/kernel,TestConverge TestTwins TestMeanwhile TestEvents TestRepair TestRepairIPv6 TestDualStack,,bin/guest-5.10)
	$(call guest,./reconcile/kernel,TestContract/ipip,,bin/guest-5.10)
	$(call guest,./cmd/netd,TestWalkthrough TestHostile TestTunl0 TestCrossSubnet TestUnderlayChanges TestReceive TestDaemonVXLAN TestDaemonBGP TestDaemonIPv6,,bin/guest-5.10)

# Runs tests of a package in the guest, of each mode that is named only that. It fails where one did not pass there. The third
# is options of bin/vm, the fourth another guest's kernel. What fails is run again, once, as other labs are.
space := $(subst ,, )
comma := ,
guest = testenv/vm/twice.sh env CGO_ENABLED=0 NETD_GUEST=1 $(GO) test -count=1 -v -timeout 20m -exec "$(CURDIR)/bin/vm -limit 15m $(3) -boot $(CURDIR)/$(or $(4),bin/guest) -must $(subst $(space),$(comma),$(2))" \
	-run '^($(subst $(space),|,$(subst /ipip,,$(2))))$$$(if $(findstring /ipip,$(2)),/^ipip$$)' $(1)

.PHONY: deb rpm
deb rpm: deps ## a package in dist/, the same bytes from the same commit
	@packaging/build.sh $@

.PHONY: packages
packages: deps ## deb and rpm from installation to removal, and doctor's commands, in a Debian guest with systemd
	@testenv/debian/packages-test.sh

# The machines are of the deb, and the test of the tree; UPDATE=1 writes the page anew.
.PHONY: vagrant-test
vagrant-test: deps deb ## the Vagrantfile's two machines and every command of docs/how-to/two-machines.md, with a libvirt of their own
	@testenv/vagrant/image.sh bin/vagrant
	CGO_ENABLED=0 $(GO) test -c -o bin/vagrant.test ./testenv/vagrant
	@testenv/vagrant/run.sh bin/vagrant sh -c 'cd testenv/vagrant && exec ../../bin/vagrant.test -test.v -test.timeout 30m $(if $(UPDATE),-update)'

.PHONY: demo
demo: deps build ## two hosts on this machine, from the file to the ping, in a minute
	@testenv/demo.sh bin/netd

.PHONY: lint
lint: ## gofmt, vet, staticcheck
	@out=$$(gofmt -l .); if [ -n "$$out" ]; then echo "not gofmt-ed: $$out" >&2; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

.PHONY: bench
bench: deps build ## netd beside the field's tools, with the ratio
	@NETD_BENCH_PROGRAM=$(CURDIR)/bin/netd $(GO) test -run '^$$' -bench '$(or $(BENCH),.)' -benchtime 1x -timeout 90m ./testenv/bench

.PHONY: bench-ipip
bench-ipip: guest build ## the packet's part of it in mode ipip, and the others beside it, in a guest kernel under QEMU
	@CGO_ENABLED=0 NETD_GUEST=1 NETD_BENCH_PROGRAM=$(CURDIR)/bin/netd $(GO) test -exec "$(CURDIR)/bin/vm -limit 30m -boot $(CURDIR)/bin/guest" \
		-run '^$$' -bench 'Packet/$(or $(BENCH),.)' -benchtime 1x -timeout 30m ./testenv/bench

.PHONY: growth
growth: deps build ## measures docs/growth.csv anew and draws it; BENCH=nodes, routes or containers measures one curve
	@NETD_BENCH_PROGRAM=$(CURDIR)/bin/netd NETD_BENCH_GROWTH=$(CURDIR)/docs/growth.csv $(GO) test -run '^$$' -bench 'Growth$(if $(BENCH),/$(BENCH))$$' -benchtime 1x -timeout 60m ./testenv/bench
	@$(MAKE) --no-print-directory plot

.PHONY: plot
plot: ## docs/growth.svg from docs/growth.csv, with gnuplot
	@command -v gnuplot >/dev/null || { echo "Install gnuplot first (Debian: gnuplot-nox)" >&2; exit 1; }
	gnuplot testenv/bench/growth.gp

.PHONY: nerdctl
nerdctl: deps ## nerdctl on two hosts with netd; builds nerdctl first, which takes minutes
	@testenv/nerdctl.sh bin/nerdctl
	NETD_NERDCTL=$(CURDIR)/bin/nerdctl $(GO) test -count=1 -v -run '^TestNerdctl$$' ./cmd/netd

.PHONY: firewalls
firewalls: deps ## Debian's firewalld and ufw close a host, NetworkManager empties a link, doctor's commands mend it; fetches them first
	@testenv/firewalls.sh bin/firewalls
	NETD_FIREWALLS=$(CURDIR)/bin/firewalls $(GO) test -count=1 -v -run '^(TestFirewalls|TestDoctorNetworkManager|TestDoctorLinkFile)$$' ./cmd/netd

.PHONY: docker-nftables
docker-nftables: deps ## Docker 29 that guards by nftables, beside netd; builds dockerd first, which takes minutes
	@testenv/docker29.sh bin/dockerd
	NETD_DOCKERD=$(CURDIR)/bin/dockerd $(GO) test -count=1 -v -run '^TestDockerNftables' ./cmd/netd

.PHONY: soak
soak: guest ## long runs: repairs at rest and in a flood of foreign changes, 1,000 containers at once under kills, Docker while netd is away, ipip killed at every step
	NETD_SOAK=1 $(call guest,./cmd/netd,TestKilled/ipip)
	NETD_SOAK=1 $(GO) test -count=1 -v -parallel 1 -timeout 60m -run '^(TestFiftyClients|TestMeshOfMany|TestFlapping|TestTooMany|TestHashPolicy)$$' ./testenv/bgp
	NETD_SOAK=1 $(GO) test -count=1 -v -parallel 1 -timeout 30m -run '^(TestOverflow|TestFlood|TestRepairFigures|TestCNIStorm|TestDockerWithoutNetd)$$' ./cmd/netd

.PHONY: fuzz
fuzz: ## the parsers of what others give: the configuration, the speaker's frames, paths and UPDATEs, the CNI plugin, Docker, the kernel; a minute each
	$(GO) test -run '^$$' -fuzz FuzzParse -fuzztime 60s -fuzzminimizetime 1s ./config
	$(GO) test -run '^$$' -fuzz FuzzFrames -fuzztime 60s ./reconcile/speaker
	$(GO) test -run '^$$' -fuzz FuzzPath -fuzztime 60s ./reconcile/speaker
	$(GO) test -run '^$$' -fuzz FuzzSift -fuzztime 60s ./reconcile/speaker
	$(GO) test -run "^$$" -fuzz FuzzRun -fuzztime 60s ./reconcile/workload/cni
	$(GO) test -run '^$$' -fuzz FuzzCall -fuzztime 60s ./reconcile/workload/docker
	$(GO) test -run '^$$' -fuzz FuzzHint -fuzztime 60s ./reconcile/watch
