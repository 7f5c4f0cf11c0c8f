{{/* The node-agent ConfigMap's JSON; empty when there is nothing to say. */}}
{{- define "node-agent.config" -}}
{{- $config := deepCopy .Values.nodeAgentConfig -}}
{{- if .Values.fsBackup.privileged -}}
{{- $_ := set $config "privilegedFsBackup" true -}}
{{- end -}}
{{- if $config -}}{{ toJson $config }}{{- end -}}
{{- end -}}
