#!/usr/bin/env bash
# A TPU pod slice by Kubernetes JobSet on GKE: one pod, with one process, for each host of the slice.
#
#     bash tools/launch/jobset_tpus.sh            or with --dry-run=server, to have it checked
#
# Needs JobSet 0.6 or later in the cluster, a node pool of that accelerator and topology, a container
# image with thyrojax[tpu] in it, and a volume that all hosts can write.
set -eu

# ---- EDIT 1 of 2: the slice. 64 chips of v6e are 16 hosts of 4.
name=thyrojax
image=IMAGE
accelerator=tpu-v6e-slice
topology=8x8
hosts=16
chips=4 # of each host
grace=15 # seconds that a pod is given to end; GKE gives 15 where a Spot node goes

# ---- EDIT 2 of 2: the run. Paths are in the shared volume, a claim of that name.
volume=thyrojax
data=data/nodules
run=runs/nodules
options="guan2019 --feed resident --dtype bfloat16 --batch-size 2048 --log-every 100"

# ---- Nothing to edit below. GKE tells each pod TPU_WORKER_ID and TPU_WORKER_HOSTNAMES, by which
# JAX finds the others.
kubectl apply "$@" -f - <<YAML
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata:
  name: $name
  annotations:
    alpha.jobset.sigs.k8s.io/exclusive-topology: cloud.google.com/gke-nodepool
spec:
  failurePolicy:
    # 143 stopped, 75 lost another process, an evicted pod: all pods start again.
    maxRestarts: 100
    rules:
      # 1 a fault of ours, 2 bad input: starting again would change nothing.
      - name: notAgain
        action: FailJobSet
        onJobFailureReasons: [PodFailurePolicy]
  replicatedJobs:
    - name: slice
      replicas: 1
      template:
        spec:
          parallelism: $hosts
          completions: $hosts
          completionMode: Indexed
          backoffLimit: 0
          podFailurePolicy:
            rules:
              - action: FailJob
                onExitCodes: {containerName: train, operator: In, values: [1, 2]}
          template:
            spec:
              restartPolicy: Never
              terminationGracePeriodSeconds: $grace
              nodeSelector:
                cloud.google.com/gke-tpu-accelerator: $accelerator
                cloud.google.com/gke-tpu-topology: $topology
              volumes:
                - name: shared
                  persistentVolumeClaim: {claimName: $volume}
                - name: local # of the host
                  emptyDir: {}
              initContainers:
                - name: copy
                  image: $image
                  command: [cp, -r, /shared/$data, /local/data]
                  volumeMounts:
                    - {name: shared, mountPath: /shared}
                    - {name: local, mountPath: /local}
              containers:
                - name: train
                  image: $image
                  env:
                    - {name: JAX_COMPILATION_CACHE_DIR, value: /shared/$run.xla}
                  command: # exec, so that SIGTERM reaches the process
                    - bash
                    - -c
                    - >-
                      exec thyrojax train $options
                      --data /local/data --workdir /shared/$run --grace-seconds $((grace - 3))
                      --distributed --connect-seconds 1800
                  resources:
                    limits: {google.com/tpu: $chips}
                  volumeMounts:
                    - {name: shared, mountPath: /shared}
                    - {name: local, mountPath: /local}
YAML
