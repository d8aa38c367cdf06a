"""The pages: what a store holds, looked at in a browser. They read its plain files, so that they work during a run and after a crash."""
