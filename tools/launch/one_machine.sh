#!/usr/bin/env bash
# One machine with 8 GPUs: one process for all of them (default), or one for each.
#
#     bash tools/launch/one_machine.sh
#
# Goes on by itself after a crash; SIGTERM saves and ends with 143, and the same command goes on.
set -u

# ---- EDIT 1 of 2: the machine.
gpus=8
processes=1 # or 8, one for each GPU

# ---- EDIT 2 of 2: the run.
data=/data/nodules   # built by `thyrojax data build`, on a local disk
run=/runs/nodules
options=(guan2019 --feed resident --dtype bfloat16 --batch-size 256 --log-every 100)

# ---- Nothing to edit below.
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$run.xla}"
train=(thyrojax train "${options[@]}" --data "$data" --workdir "$run" --grace-seconds 25)
pids=()
stopped=no
trap 'stopped=yes; kill -TERM "${pids[@]}" 2>/dev/null' TERM INT

start() {
  pids=()
  if [ "$processes" -eq 1 ]; then
    "${train[@]}" &
    pids=($!)
    return
  fi
  for ((i = 0; i < processes; i++)); do
    CUDA_VISIBLE_DEVICES=$(seq -s, $((i * gpus / processes)) $(((i + 1) * gpus / processes - 1))) \
      "${train[@]}" --coordinator 127.0.0.1:55527 --num-processes "$processes" --process-id "$i" &
    pids+=($!)
  done
}

# The highest status of all; a signal to this script interrupts `wait`, which is then asked again.
wait_for_all() {
  status=0
  for pid in "${pids[@]}"; do
    wait "$pid"
    one=$?
    while kill -0 "$pid" 2>/dev/null; do
      wait "$pid"
      one=$?
    done
    if [ "$one" -gt "$status" ]; then status=$one; fi
  done
}

for ((attempt = 0; attempt < 100; attempt++)); do
  start
  wait_for_all
  case $status in
    0 | 1 | 2) exit "$status" ;; # finished; a fault of ours; bad input
  esac
  if [ "$stopped" = yes ]; then exit 143; fi
  echo "thyrojax ended with status $status; started again" >&2
  sleep "${RESTART_SECONDS:-10}"
done
exit "$status"
