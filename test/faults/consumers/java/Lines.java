/** The protocol that both consumers speak: a token a line on stdin, `ok SUB` or `refused REASON` a line on stdout. */

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;

final class Lines {
    interface Verifier {
        /** The subject. */
        String verify(String token) throws Exception;
    }

    static void serve(Verifier verifier) throws IOException {
        var lines = new BufferedReader(new InputStreamReader(System.in));
        for (String token = lines.readLine(); token != null; token = lines.readLine()) {
            try {
                System.out.println("ok " + verifier.verify(token));
            } catch (Exception error) {
                System.out.println("refused " + error.toString().replace('\n', ' '));
            }
        }
    }
}
