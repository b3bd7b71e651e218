# Draws docs/growth.svg from docs/growth.csv: gnuplot testenv/bench/growth.gp
set terminal svg size 1080,440 font "sans-serif,12" background "white"
set output "docs/growth.svg"
set datafile separator ","
set multiplot layout 1,3
set logscale xy
set format x "10^{%T}"
set format y "10^{%T}"
set grid
set autoscale xfix
set key below vertical maxrows 3 reverse Left samplen 2
set ylabel "seconds"
of(curve, side) = sprintf("< awk -F, '$1 == \"%s\" && $2 == \"%s\"' docs/growth.csv", curve, side)

set title "n nodes applied (vxlan)"
plot of("nodes", "netd") using 3:5 with linespoints lw 2 pt 7 ps 0.6 title "netd, from the file to verified", \
     of("nodes", "ip and bridge -batch") using 3:5 with linespoints pt 7 ps 0.6 title "ip and bridge -batch"

set title "n routes into the kernel"
plot of("routes", "netd") using 3:5 with linespoints lw 2 pt 7 ps 0.6 title "netd, verified", \
     of("routes", "ip -batch") using 3:5 with linespoints pt 7 ps 0.6 title "ip -batch", \
     of("routes", "answered + dump") using 3:5 with linespoints pt 7 ps 0.6 title "the kernel: answered + dump"

set title "n containers attached at once (CNI)"
plot of("containers", "netd") using 3:5 with linespoints lw 2 pt 7 ps 0.6 title "netd", \
     of("containers", "ptp") using 3:5 with linespoints pt 7 ps 0.6 title "ptp with host-local"
unset multiplot
