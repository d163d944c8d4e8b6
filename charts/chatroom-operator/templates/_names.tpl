{{/* Labels that select the operator's pods. NetworkPolicies of rooms know the pods by the first. */}}
{{- define "chatroom-operator.selector" -}}
app.kubernetes.io/name: chatroom-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "chatroom-operator.labels" -}}
{{ include "chatroom-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: chatroom
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* Cluster-wide objects of two releases must not meet. */}}
{{- define "chatroom-operator.cluster-name" -}}
{{ .Release.Namespace }}-{{ .Release.Name }}
{{- end }}

{{/* The Lease of those who watch these rooms, as the operator looks for it. */}}
{{- define "chatroom-operator.lease" -}}
{{- if .Values.watchNamespace -}}
name: chatroom-operator
namespace: {{ .Values.watchNamespace }}
{{- else -}}
name: chatroom-operator-cluster
namespace: default
{{- end -}}
{{- end }}
