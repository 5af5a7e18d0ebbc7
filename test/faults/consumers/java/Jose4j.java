/**
 * A resource server in Java with jose4j: ISSUER AUDIENCE JWKS_URL [COOLDOWN_MS]. By default it fetches for an unknown kid
 * once in 300 ms, and keeps a set for as long as its Cache-Control says.
 */

import org.jose4j.jwa.AlgorithmConstraints;
import org.jose4j.jwa.AlgorithmConstraints.ConstraintType;
import org.jose4j.jwk.HttpsJwks;
import org.jose4j.jwt.consumer.JwtConsumerBuilder;
import org.jose4j.keys.resolvers.HttpsJwksVerificationKeyResolver;

final class Jose4j {
    public static void main(String[] arguments) throws Exception {
        var jwks = new HttpsJwks(arguments[2]);
        if (arguments.length > 3) jwks.setRefreshReprieveThreshold(Long.parseLong(arguments[3]));
        var consumer = new JwtConsumerBuilder()
            .setVerificationKeyResolver(new HttpsJwksVerificationKeyResolver(jwks))
            .setJwsAlgorithmConstraints(new AlgorithmConstraints(ConstraintType.PERMIT, "EdDSA"))
            .setExpectedType(true, "at+jwt")
            .setExpectedIssuer(arguments[0])
            .setExpectedAudience(arguments[1])
            .setRequireExpirationTime().setRequireIssuedAt().setRequireSubject().setRequireJwtId()
            .setAllowedClockSkewInSeconds(5)
            .build();
        Lines.serve(token -> consumer.processToClaims(token).getSubject());
    }
}
