"""Shapes of workloads, webhooks, CRDs and the other groups; the notation is in ``shapes``.

Invariants: as in ``shapes_core``.
Source: https://kubernetes.io/docs/reference/kubernetes-api/
"""

TABLE = """
Deployment: apiVersion str, kind str, metadata ObjectMeta, spec DeploymentSpec,
  status DeploymentStatus
DeploymentSpec: replicas int, selector LabelSelector!, template PodTemplateSpec!,
  strategy DeploymentStrategy, minReadySeconds int, revisionHistoryLimit int, paused bool,
  progressDeadlineSeconds int
DeploymentStrategy: type str, rollingUpdate RollingUpdate
RollingUpdate: maxUnavailable intstr, maxSurge intstr, partition int
DeploymentStatus: observedGeneration int, replicas int, updatedReplicas int, readyReplicas int,
  availableReplicas int, unavailableReplicas int, terminatingReplicas int,
  conditions [Condition]/type, collisionCount int
ReplicaSet: apiVersion str, kind str, metadata ObjectMeta, spec ReplicaSetSpec,
  status ReplicaSetStatus
ReplicaSetSpec: replicas int, selector LabelSelector!, template PodTemplateSpec, minReadySeconds int
ReplicaSetStatus: replicas int, fullyLabeledReplicas int, readyReplicas int, availableReplicas int,
  terminatingReplicas int, observedGeneration int, conditions [Condition]/type
StatefulSet: apiVersion str, kind str, metadata ObjectMeta, spec StatefulSetSpec,
  status StatefulSetStatus
StatefulSetSpec: replicas int, selector LabelSelector!, template PodTemplateSpec!, serviceName str,
  volumeClaimTemplates [PersistentVolumeClaim], podManagementPolicy str,
  updateStrategy DeploymentStrategy, revisionHistoryLimit int, minReadySeconds int,
  persistentVolumeClaimRetentionPolicy any, ordinals any
StatefulSetStatus: observedGeneration int, replicas int, readyReplicas int, currentReplicas int,
  updatedReplicas int, currentRevision str, updateRevision str, collisionCount int,
  conditions [Condition]/type, availableReplicas int
DaemonSet: apiVersion str, kind str, metadata ObjectMeta, spec DaemonSetSpec, status DaemonSetStatus
DaemonSetSpec: selector LabelSelector!, template PodTemplateSpec!,
  updateStrategy DeploymentStrategy, minReadySeconds int, revisionHistoryLimit int
DaemonSetStatus: currentNumberScheduled int, numberMisscheduled int, desiredNumberScheduled int,
  numberReady int, observedGeneration int, updatedNumberScheduled int, numberAvailable int,
  numberUnavailable int, collisionCount int, conditions [Condition]/type
ControllerRevision: apiVersion str, kind str, metadata ObjectMeta, data any, revision int!
Scale: apiVersion str, kind str, metadata ObjectMeta, spec ScaleSpec, status ScaleStatus
ScaleSpec: replicas int
ScaleStatus: replicas int, selector str

Job: apiVersion str, kind str, metadata ObjectMeta, spec JobSpec, status JobStatus
JobSpec: parallelism int, completions int, activeDeadlineSeconds int, podFailurePolicy any,
  successPolicy any, backoffLimit int, backoffLimitPerIndex int, maxFailedIndexes int,
  selector LabelSelector, manualSelector bool, template PodTemplateSpec!,
  ttlSecondsAfterFinished int, completionMode str, suspend bool, podReplacementPolicy str,
  managedBy str
JobStatus: conditions [Condition]/type, startTime time, completionTime time, active int,
  succeeded int, failed int, terminating int, completedIndexes str, failedIndexes str,
  uncountedTerminatedPods any, ready int
CronJob: apiVersion str, kind str, metadata ObjectMeta, spec CronJobSpec, status any
CronJobSpec: schedule str!, timeZone str, startingDeadlineSeconds int, concurrencyPolicy str,
  suspend bool, jobTemplate JobTemplateSpec!, successfulJobsHistoryLimit int,
  failedJobsHistoryLimit int
JobTemplateSpec: metadata ObjectMeta, spec JobSpec

EndpointSlice: apiVersion str, kind str, metadata ObjectMeta, addressType str!,
  endpoints [Endpoint], ports [EndpointPort]
Endpoint: addresses [str]!, conditions EndpointConditions, hostname str, targetRef ObjectReference,
  deprecatedTopology {str}, nodeName str, zone str, hints any
EndpointConditions: ready bool, serving bool, terminating bool
Lease: apiVersion str, kind str, metadata ObjectMeta, spec LeaseSpec
LeaseSpec: holderIdentity str, leaseDurationSeconds int, acquireTime time, renewTime time,
  leaseTransitions int, strategy str, preferredHolder str

MutatingWebhookConfiguration: apiVersion str, kind str, metadata ObjectMeta, webhooks [Webhook]/name
ValidatingWebhookConfiguration: apiVersion str, kind str, metadata ObjectMeta,
  webhooks [Webhook]/name
Webhook: name str!, clientConfig WebhookClientConfig!, rules [WebhookRule], failurePolicy str,
  matchPolicy str, namespaceSelector LabelSelector, objectSelector LabelSelector, sideEffects str!,
  timeoutSeconds int, admissionReviewVersions [str]!, reinvocationPolicy str, matchConditions any
WebhookClientConfig: url str, service WebhookService, caBundle bytes
WebhookService: namespace str!, name str!, path str, port int
WebhookRule: operations [str], apiGroups [str], apiVersions [str], resources [str], scope str

CustomResourceDefinition: apiVersion str, kind str, metadata ObjectMeta, spec CRDSpec!,
  status CRDStatus
CRDSpec: group str!, names CRDNames!, scope str!, versions [CRDVersion]!, conversion CRDConversion,
  preserveUnknownFields bool
CRDNames: plural str!, singular str, shortNames [str], kind str!, listKind str, categories [str]
CRDVersion: name str!, served bool!, storage bool!, deprecated bool, deprecationWarning str,
  schema CRDValidation, subresources CRDSubresources, additionalPrinterColumns [CRDColumn],
  selectableFields any
CRDValidation: openAPIV3Schema any
CRDSubresources: status any, scale CRDScale
CRDScale: specReplicasPath str!, statusReplicasPath str!, labelSelectorPath str
CRDColumn: name str!, type str!, format str, description str, priority int, jsonPath str!
CRDConversion: strategy str!, webhook any
CRDStatus: conditions [Condition]/type, acceptedNames CRDNames, storedVersions [str],
  observedGeneration int

Role: apiVersion str, kind str, metadata ObjectMeta, rules [PolicyRule]
ClusterRole: apiVersion str, kind str, metadata ObjectMeta, rules [PolicyRule], aggregationRule any
PolicyRule: verbs [str]!, apiGroups [str], resources [str], resourceNames [str],
  nonResourceURLs [str]
RoleBinding: apiVersion str, kind str, metadata ObjectMeta, subjects [Subject], roleRef RoleRef!
ClusterRoleBinding: apiVersion str, kind str, metadata ObjectMeta, subjects [Subject],
  roleRef RoleRef!
Subject: kind str!, apiGroup str, name str!, namespace str
RoleRef: apiGroup str, kind str!, name str!
NetworkPolicy: apiVersion str, kind str, metadata ObjectMeta, spec any
Ingress: apiVersion str, kind str, metadata ObjectMeta, spec any, status any
IngressClass: apiVersion str, kind str, metadata ObjectMeta, spec any
HorizontalPodAutoscaler: apiVersion str, kind str, metadata ObjectMeta, spec any, status any
ResourceQuota: apiVersion str, kind str, metadata ObjectMeta, spec any, status any
LimitRange: apiVersion str, kind str, metadata ObjectMeta, spec any
ReplicationController: apiVersion str, kind str, metadata ObjectMeta, spec any, status any
PersistentVolume: apiVersion str, kind str, metadata ObjectMeta, spec any, status any
PriorityClass: apiVersion str, kind str, metadata ObjectMeta, value int, globalDefault bool,
  description str, preemptionPolicy str
StorageClass: apiVersion str, kind str, metadata ObjectMeta, provisioner str!, parameters {str},
  reclaimPolicy str, mountOptions [str], allowVolumeExpansion bool, volumeBindingMode str,
  allowedTopologies any
PodDisruptionBudget: apiVersion str, kind str, metadata ObjectMeta, spec any, status any

TokenReview: apiVersion str, kind str, metadata ObjectMeta, spec TokenReviewSpec!, status any
TokenReviewSpec: token str!, audiences [str]
TokenRequest: apiVersion str, kind str, metadata ObjectMeta, spec TokenRequestSpec!, status any
TokenRequestSpec: audiences [str], expirationSeconds int, boundObjectRef BoundObjectRef
BoundObjectRef: kind str, apiVersion str, name str, uid str
SelfSubjectReview: apiVersion str, kind str, metadata ObjectMeta, status any
SelfSubjectAccessReview: apiVersion str, kind str, metadata ObjectMeta, spec AccessSpec!, status any
SubjectAccessReview: apiVersion str, kind str, metadata ObjectMeta, spec AccessSpec!, status any
SelfSubjectRulesReview: apiVersion str, kind str, metadata ObjectMeta, spec RulesReviewSpec!,
  status any
RulesReviewSpec: namespace str
AccessSpec: resourceAttributes ResourceAttributes, nonResourceAttributes NonResourceAttributes,
  user str, groups [str], uid str, extra any
ResourceAttributes: namespace str, verb str, group str, version str, resource str, subresource str,
  name str, fieldSelector any, labelSelector any
NonResourceAttributes: path str, verb str
Binding: apiVersion str, kind str, metadata ObjectMeta, target ObjectReference!
"""
