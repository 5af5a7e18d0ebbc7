// A resource server in Go with coreos/go-oidc and its RemoteKeySet: ISSUER AUDIENCE JWKS_URL; a token a line on stdin,
// `ok SUB` or `refused REASON` a line on stdout. The key set fetches at every kid it does not know: there is no cooldown
// to set, and what it has read never goes stale.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"
)

func main() {
	issuer, audience, jwksURL := os.Args[1], os.Args[2], os.Args[3]
	ctx := context.Background()
	keys := oidc.NewRemoteKeySet(ctx, jwksURL)
	verifier := oidc.NewVerifier(issuer, keys, &oidc.Config{
		ClientID:             audience,
		SupportedSigningAlgs: []string{oidc.EdDSA},
	})
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		token, err := verifier.Verify(ctx, lines.Text())
		if err != nil {
			fmt.Println("refused", strings.ReplaceAll(err.Error(), "\n", " "))
		} else {
			fmt.Println("ok", token.Subject)
		}
	}
}
