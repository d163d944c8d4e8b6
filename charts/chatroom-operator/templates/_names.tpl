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
