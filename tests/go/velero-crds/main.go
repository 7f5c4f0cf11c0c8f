// Writes the CRDs that a Velero release embeds, one JSON file each, into the directory given.
// Recipe of tests/fixtures/crds/<version>: run.sh beside this file.
package main

import (
	"encoding/json"
	"os"
	"path/filepath"

	v1 "github.com/vmware-tanzu/velero/config/crd/v1/crds"
	v2 "github.com/vmware-tanzu/velero/config/crd/v2alpha1/crds"
)

func main() {
	wanted := map[string]bool{"backupstoragelocations": true, "podvolumebackups": true, "podvolumerestores": true, "backuprepositories": true, "datauploads": true, "datadownloads": true}
	for _, crd := range append(v1.CRDs, v2.CRDs...) {
		if !wanted[crd.Spec.Names.Plural] {
			continue
		}
		crd.APIVersion, crd.Kind = "apiextensions.k8s.io/v1", "CustomResourceDefinition"
		text, err := json.MarshalIndent(crd, "", " ")
		if err != nil {
			panic(err)
		}
		var body map[string]any
		_ = json.Unmarshal(text, &body)
		delete(body, "status")
		text, _ = json.Marshal(body)
		if err := os.WriteFile(filepath.Join(os.Args[1], crd.Spec.Names.Plural+".json"), append(text, '\n'), 0o644); err != nil {
			panic(err)
		}
	}
}
