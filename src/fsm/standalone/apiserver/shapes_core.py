"""Shapes of metadata, Pods and the core group; the notation is explained in ``shapes``.

Invariants: every kind has apiVersion, kind and metadata; types are listed before kinds only for
the reader, their order means nothing.
Source: https://kubernetes.io/docs/reference/kubernetes-api/
"""

TABLE = """
ObjectMeta: name str, generateName str, namespace str, uid str, resourceVersion str, generation int,
  creationTimestamp time, deletionTimestamp time, deletionGracePeriodSeconds int, labels {str},
  annotations {str}, ownerReferences [OwnerReference]/uid, finalizers [str]/, selfLink str,
  managedFields [ManagedFields]
OwnerReference: apiVersion str!, kind str!, name str!, uid str!, controller bool,
  blockOwnerDeletion bool
ManagedFields: manager str, operation str, apiVersion str, time time, fieldsType str, fieldsV1 any,
  subresource str
ObjectReference: kind str, namespace str, name str, uid str, apiVersion str, resourceVersion str,
  fieldPath str
LocalObjectReference: name str
LabelSelector: matchLabels {str}, matchExpressions [LabelRequirement]
LabelRequirement: key str!, operator str!, values [str]
Condition: type str!, status str!, observedGeneration int, lastTransitionTime time, reason str,
  message str, lastUpdateTime time, lastProbeTime time, lastHeartbeatTime time

Namespace: apiVersion str, kind str, metadata ObjectMeta, spec NamespaceSpec, status NamespaceStatus
NamespaceSpec: finalizers [str]
NamespaceStatus: phase str, conditions [Condition]/type

Pod: apiVersion str, kind str, metadata ObjectMeta, spec PodSpec, status PodStatus
PodTemplateSpec: metadata ObjectMeta, spec PodSpec
PodSpec: containers [Container]/name!, initContainers [Container]/name,
  ephemeralContainers [Container]/name, volumes [Volume]/name, restartPolicy str,
  terminationGracePeriodSeconds int, activeDeadlineSeconds int, dnsPolicy str,
  dnsConfig PodDNSConfig, nodeSelector {str}, serviceAccountName str, serviceAccount str,
  automountServiceAccountToken bool, nodeName str, hostNetwork bool, hostPID bool, hostIPC bool,
  hostUsers bool, shareProcessNamespace bool, securityContext PodSecurityContext,
  imagePullSecrets [LocalObjectReference]/name, hostname str, subdomain str, affinity any,
  schedulerName str, tolerations [Toleration], hostAliases [HostAlias]/ip, priorityClassName str,
  priority int, preemptionPolicy str, readinessGates [ReadinessGate], runtimeClassName str,
  enableServiceLinks bool, overhead {quantity},
  topologySpreadConstraints [TopologySpreadConstraint]/topologyKey, setHostnameAsFQDN bool,
  os PodOS, schedulingGates [SchedulingGate]/name, resourceClaims [PodResourceClaim]/name,
  resources ResourceRequirements
PodDNSConfig: nameservers [str], searches [str], options [DNSOption]
DNSOption: name str, value str
PodOS: name str!
SchedulingGate: name str!
PodResourceClaim: name str!, resourceClaimName str, resourceClaimTemplateName str
ReadinessGate: conditionType str!
HostAlias: ip str!, hostnames [str]
Toleration: key str, operator str, value str, effect str, tolerationSeconds int
TopologySpreadConstraint: maxSkew int, topologyKey str, whenUnsatisfiable str,
  labelSelector LabelSelector, minDomains int, nodeAffinityPolicy str, nodeTaintsPolicy str,
  matchLabelKeys [str]
PodSecurityContext: runAsUser int, runAsGroup int, runAsNonRoot bool, fsGroup int,
  fsGroupChangePolicy str, supplementalGroups [int], supplementalGroupsPolicy str,
  seccompProfile SeccompProfile, appArmorProfile SeccompProfile, seLinuxOptions any,
  seLinuxChangePolicy str, sysctls [Sysctl], windowsOptions any
SeccompProfile: type str!, localhostProfile str
Sysctl: name str!, value str!
Container: name str!, image str, imagePullPolicy str, command [str], args [str], workingDir str,
  ports [ContainerPort]/containerPort, env [EnvVar]/name, envFrom [EnvFromSource],
  resources ResourceRequirements, resizePolicy [ResizePolicy], restartPolicy str,
  volumeMounts [VolumeMount]/mountPath, volumeDevices [VolumeDevice]/devicePath,
  livenessProbe Probe, readinessProbe Probe, startupProbe Probe, lifecycle Lifecycle,
  terminationMessagePath str, terminationMessagePolicy str, securityContext SecurityContext,
  stdin bool, stdinOnce bool, tty bool, targetContainerName str
ContainerPort: name str, containerPort int!, hostPort int, hostIP str, protocol str
EnvVar: name str!, value str, valueFrom EnvVarSource
EnvVarSource: fieldRef FieldRef, resourceFieldRef ResourceFieldRef, configMapKeyRef KeyRef,
  secretKeyRef KeyRef
FieldRef: apiVersion str, fieldPath str!
ResourceFieldRef: containerName str, resource str!, divisor quantity
KeyRef: name str, key str!, optional bool
EnvFromSource: prefix str, configMapRef OptionalRef, secretRef OptionalRef
OptionalRef: name str, optional bool
ResourceRequirements: limits {quantity}, requests {quantity}, claims [ResourceClaim]/name
ResourceClaim: name str!, request str
ResizePolicy: resourceName str!, restartPolicy str!
VolumeMount: name str!, mountPath str!, subPath str, subPathExpr str, readOnly bool,
  recursiveReadOnly str, mountPropagation str
VolumeDevice: name str!, devicePath str!
Probe: exec ExecAction, httpGet HTTPGetAction, tcpSocket TCPSocketAction, grpc GRPCAction,
  initialDelaySeconds int, timeoutSeconds int, periodSeconds int, successThreshold int,
  failureThreshold int, terminationGracePeriodSeconds int
ExecAction: command [str]
HTTPGetAction: path str, port intstr!, host str, scheme str, httpHeaders [HTTPHeader]
HTTPHeader: name str!, value str!
TCPSocketAction: port intstr!, host str
GRPCAction: port int!, service str
SleepAction: seconds int!
Lifecycle: postStart LifecycleHandler, preStop LifecycleHandler, stopSignal str
LifecycleHandler: exec ExecAction, httpGet HTTPGetAction, tcpSocket TCPSocketAction,
  sleep SleepAction
SecurityContext: capabilities Capabilities, privileged bool, runAsUser int, runAsGroup int,
  runAsNonRoot bool, readOnlyRootFilesystem bool, allowPrivilegeEscalation bool, procMount str,
  seccompProfile SeccompProfile, appArmorProfile SeccompProfile, seLinuxOptions any,
  windowsOptions any
Capabilities: add [str], drop [str]
Volume: name str!, emptyDir EmptyDir, hostPath HostPath, secret SecretVolume,
  configMap ConfigMapVolume, projected ProjectedVolume, downwardAPI DownwardVolume,
  persistentVolumeClaim ClaimVolume, nfs any, csi any, ephemeral any, image any, iscsi any, rbd any,
  cephfs any, fc any, glusterfs any, gitRepo any, awsElasticBlockStore any, gcePersistentDisk any,
  azureDisk any, azureFile any, cinder any, vsphereVolume any, quobyte any, flexVolume any,
  flocker any, photonPersistentDisk any, portworxVolume any, scaleIO any, storageos any
EmptyDir: medium str, sizeLimit quantity
HostPath: path str!, type str
SecretVolume: secretName str, items [KeyToPath], defaultMode int, optional bool
ConfigMapVolume: name str, items [KeyToPath], defaultMode int, optional bool
KeyToPath: key str!, path str!, mode int
ClaimVolume: claimName str!, readOnly bool
DownwardVolume: items [DownwardFile], defaultMode int
DownwardFile: path str!, fieldRef FieldRef, resourceFieldRef ResourceFieldRef, mode int
ProjectedVolume: sources [ProjectedSource], defaultMode int
ProjectedSource: secret SecretProjection, configMap SecretProjection,
  downwardAPI DownwardProjection, serviceAccountToken TokenProjection, clusterTrustBundle any,
  podCertificate any
SecretProjection: name str, items [KeyToPath], optional bool
DownwardProjection: items [DownwardFile]
TokenProjection: audience str, expirationSeconds int, path str!
PodStatus: phase str, conditions [Condition]/type, message str, reason str, hostIP str,
  hostIPs [PodIP]/ip, podIP str, podIPs [PodIP]/ip, startTime time, nominatedNodeName str,
  initContainerStatuses [ContainerStatus], containerStatuses [ContainerStatus],
  ephemeralContainerStatuses [ContainerStatus], qosClass str, resize str, observedGeneration int,
  resourceClaimStatuses any
PodIP: ip str!
ContainerStatus: name str!, state ContainerState, lastState ContainerState, ready bool,
  restartCount int, image str, imageID str, containerID str, started bool, stopSignal str,
  allocatedResources {quantity}, resources ResourceRequirements, volumeMounts any, user any,
  allocatedResourcesStatus any
ContainerState: waiting StateWaiting, running StateRunning, terminated StateTerminated
StateWaiting: reason str, message str
StateRunning: startedAt time
StateTerminated: exitCode int, signal int, reason str, message str, startedAt time, finishedAt time,
  containerID str

Service: apiVersion str, kind str, metadata ObjectMeta, spec ServiceSpec, status ServiceStatus
ServiceSpec: ports [ServicePort]/port, selector {str}, clusterIP str, clusterIPs [str], type str,
  externalIPs [str], sessionAffinity str, sessionAffinityConfig any, loadBalancerIP str,
  loadBalancerSourceRanges [str], loadBalancerClass str, externalName str,
  externalTrafficPolicy str, internalTrafficPolicy str, healthCheckNodePort int,
  publishNotReadyAddresses bool, ipFamilies [str], ipFamilyPolicy str,
  allocateLoadBalancerNodePorts bool, trafficDistribution str
ServicePort: name str, protocol str, appProtocol str, port int!, targetPort intstr, nodePort int
ServiceStatus: loadBalancer any, conditions [Condition]/type

Secret: apiVersion str, kind str, metadata ObjectMeta, data {bytes}, stringData {str}, type str,
  immutable bool
ConfigMap: apiVersion str, kind str, metadata ObjectMeta, data {str}, binaryData {bytes},
  immutable bool
ServiceAccount: apiVersion str, kind str, metadata ObjectMeta, secrets [ObjectReference]/name,
  imagePullSecrets [LocalObjectReference]/name, automountServiceAccountToken bool
Endpoints: apiVersion str, kind str, metadata ObjectMeta, subsets [EndpointSubset]
EndpointSubset: addresses [EndpointAddress], notReadyAddresses [EndpointAddress],
  ports [EndpointPort]
EndpointAddress: ip str!, hostname str, nodeName str, targetRef ObjectReference
EndpointPort: name str, port int, protocol str, appProtocol str
Event: apiVersion str, kind str, metadata ObjectMeta, involvedObject ObjectReference, reason str,
  message str, source EventSource, firstTimestamp time, lastTimestamp time, count int, type str,
  eventTime time, series EventSeries, action str, related ObjectReference, reportingComponent str,
  reportingInstance str
EventSource: component str, host str
EventSeries: count int, lastObservedTime time
Node: apiVersion str, kind str, metadata ObjectMeta, spec NodeSpec, status NodeStatus
NodeSpec: podCIDR str, podCIDRs [str]/, providerID str, unschedulable bool, taints [Taint],
  externalID str, configSource any
Taint: key str!, value str, effect str!, timeAdded time
NodeStatus: capacity {quantity}, allocatable {quantity}, phase str, conditions [Condition]/type,
  addresses [NodeAddress]/type, daemonEndpoints any, nodeInfo NodeInfo, images any,
  volumesInUse any, volumesAttached any, config any, features any, runtimeHandlers any
NodeAddress: type str!, address str!
NodeInfo: machineID str, systemUUID str, bootID str, kernelVersion str, osImage str,
  containerRuntimeVersion str, kubeletVersion str, kubeProxyVersion str, operatingSystem str,
  architecture str, swap any
PersistentVolumeClaim: apiVersion str, kind str, metadata ObjectMeta, spec any, status any
"""
