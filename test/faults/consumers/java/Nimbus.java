/**
 * A resource server in Java with Nimbus, its JWKSource and its Ed25519Verifier, for its own processor takes no Ed25519:
 * ISSUER AUDIENCE JWKS_URL [COOLDOWN_MS]. By default it keeps a set for 5 min, reads it anew 30 s before that, and fetches
 * for unknown kids twice in 30 s.
 */

import com.nimbusds.jose.JOSEObjectType;
import com.nimbusds.jose.crypto.Ed25519Verifier;
import com.nimbusds.jose.jwk.JWKMatcher;
import com.nimbusds.jose.jwk.JWKSelector;
import com.nimbusds.jose.jwk.source.JWKSourceBuilder;
import com.nimbusds.jose.proc.DefaultJOSEObjectTypeVerifier;
import com.nimbusds.jose.proc.SecurityContext;
import com.nimbusds.jwt.JWTClaimsSet;
import com.nimbusds.jwt.SignedJWT;
import com.nimbusds.jwt.proc.BadJWTException;
import com.nimbusds.jwt.proc.DefaultJWTClaimsVerifier;
import java.net.URI;
import java.util.Set;

final class Nimbus {
    public static void main(String[] arguments) throws Exception {
        JWKSourceBuilder<SecurityContext> builder = JWKSourceBuilder.create(URI.create(arguments[2]).toURL());
        if (arguments.length > 3) builder.rateLimited(Long.parseLong(arguments[3]));
        var keys = builder.build();
        var type = new DefaultJOSEObjectTypeVerifier<>(new JOSEObjectType("at+jwt"));
        var claimsVerifier = new DefaultJWTClaimsVerifier<>(
            arguments[1],
            new JWTClaimsSet.Builder().issuer(arguments[0]).build(),
            Set.of("exp", "iat", "sub", "jti", "client_id"));
        Lines.serve(token -> {
            var jwt = SignedJWT.parse(token);
            type.verify(jwt.getHeader().getType(), null);
            var found = keys.get(new JWKSelector(JWKMatcher.forJWSHeader(jwt.getHeader())), null);
            if (found.isEmpty()) throw new BadJWTException("unknown key");
            if (!jwt.verify(new Ed25519Verifier(found.get(0).toOctetKeyPair().toPublicJWK()))) {
                throw new BadJWTException("signature verification failed");
            }
            claimsVerifier.verify(jwt.getJWTClaimsSet(), null);
            return jwt.getJWTClaimsSet().getSubject();
        });
    }
}
